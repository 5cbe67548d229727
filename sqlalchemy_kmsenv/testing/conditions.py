"""Conditions of IAM policies: the operators and keys that decide about KMS calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sqlalchemy_kmsenv.errors import ConfigurationError

Facts = Mapping[str, tuple[str, ...]]
"""What is true of a request: condition key in lower case, and its values; absent if none."""

CONTEXT_PREFIX = "kms:encryptioncontext:"
CONTEXT_KEYS = "kms:encryptioncontextkeys"
SEVERAL = frozenset({CONTEXT_KEYS, "kms:resourcealiases"})
"""Keys with several values: IAM asks for ForAllValues or ForAnyValue with these."""
KNOWN = frozenset(
    {
        *SEVERAL,
        "aws:principalaccount",
        "aws:principalarn",
        "aws:requestedregion",
        "kms:calleraccount",
        "kms:encryptionalgorithm",
        "kms:keyorigin",
        "kms:keyspec",
        "kms:keyusage",
        "kms:macalgorithm",
        "kms:multiregion",
        "kms:multiregionkeytype",
        "kms:reencryptonsamekey",
        "kms:requestalias",
        # Never there: nobody calls this server on behalf of another AWS service.
        "kms:viaservice",
    }
)

_ARN_COLONS = 5
_Match = Callable[[str, str], bool]


@cache
def wildcard(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern in which ``*`` is any text and ``?`` any one character."""
    parts = re.split(r"([*?])", pattern)
    rendered = {"*": ".*", "?": "."}
    return re.compile("".join(rendered.get(p, re.escape(p)) for p in parts), flags | re.DOTALL)


def _equal(wanted: str, value: str) -> bool:
    return wanted == value


def _equal_without_case(wanted: str, value: str) -> bool:
    return wanted.casefold() == value.casefold()


def _like(wanted: str, value: str) -> bool:
    return wildcard(wanted).fullmatch(value) is not None


def _like_arn(wanted: str, value: str) -> bool:
    # Part by part: a wildcard does not reach over a colon, but for the last part's own.
    pairs = zip(wanted.split(":", _ARN_COLONS), value.split(":", _ARN_COLONS), strict=False)
    return is_arn_pattern(value) and all(_like(part, own) for part, own in pairs)


def is_arn_pattern(text: str) -> bool:
    """Whether ``text`` has the six parts of an ARN, with wildcards or without."""
    return text.startswith("arn:") and text.count(":") >= _ARN_COLONS


_OPERATORS: Mapping[str, tuple[_Match, bool]] = MappingProxyType(
    {
        "StringEquals": (_equal, False),
        "StringNotEquals": (_equal, True),
        "StringEqualsIgnoreCase": (_equal_without_case, False),
        "StringNotEqualsIgnoreCase": (_equal_without_case, True),
        "StringLike": (_like, False),
        "StringNotLike": (_like, True),
        "ArnEquals": (_like_arn, False),
        "ArnLike": (_like_arn, False),
        "ArnNotEquals": (_like_arn, True),
        "ArnNotLike": (_like_arn, True),
        "Bool": (_equal_without_case, False),
    }
)
"""How one wanted text is compared with one value, and whether the operator negates."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator, one key, and the values that the policy names."""

    operator: str
    key: str
    """In lower case: IAM does not tell condition keys apart by case."""
    wanted: tuple[str, ...]
    quantifier: str = ""
    if_exists: bool = False

    def holds(self, facts: Facts) -> bool:
        """Whether the condition is true of these facts."""
        values = facts.get(self.key, ())
        if self.operator == "Null":
            # "false": the key exists and its value is not null, and an empty text is null here.
            return (not any(values)) is (self.wanted[0].lower() == "true")
        if not values:
            return self._holds_for_nothing()
        fitting = [self._fits(value) for value in values]
        return any(fitting) if self.quantifier == "ForAnyValue" else all(fitting)

    def _holds_for_nothing(self) -> bool:
        if self.quantifier:
            # The trap of ForAllValues in an Allow: of no value everything is true.
            return self.quantifier == "ForAllValues" or self.if_exists
        return self.if_exists or _OPERATORS[self.operator][1]

    def _fits(self, value: str) -> bool:
        match, negated = _OPERATORS[self.operator]
        return any(match(wanted, value) for wanted in self.wanted) is not negated


def parse_conditions(content: object, where: str) -> tuple[Condition, ...]:
    """The conditions of one statement; all must hold.

    Raises:
        ConfigurationError: an operator or key that this server does not evaluate.
    """
    if not isinstance(content, Mapping):
        raise _refusal(f"{where}.Condition is no object")
    return tuple(
        _condition(operator, key, values, f"{where}.Condition.{operator}")
        for operator, keys in content.items()
        for key, values in _object(keys, f"{where}.Condition.{operator}").items()
    )


def _condition(written: str, key: str, values: object, where: str) -> Condition:
    quantifier, _, rest = written.rpartition(":")
    operator = rest.removesuffix("IfExists")
    if quantifier not in {"", "ForAllValues", "ForAnyValue"} or not (
        operator in _OPERATORS or rest == "Null"
    ):
        raise _refusal(f"{where}: this operator is not evaluated here")
    folded = key.lower()
    if folded not in KNOWN and not (folded.startswith(CONTEXT_PREFIX) and folded != CONTEXT_PREFIX):
        raise _refusal(f"{where}: the key {key!r} is not evaluated here")
    if folded in SEVERAL and not quantifier and operator != "Null":
        raise _refusal(f"{where}: {key} has several values; write ForAllValues: or ForAnyValue:")
    if quantifier and (rest == "Null" or (quantifier == "ForAllValues" and folded not in SEVERAL)):
        raise _refusal(f"{where}: {quantifier} is for keys with several values, and not for Null")
    wanted = _texts(values, where)
    _check_values(operator, wanted, where)
    return Condition(operator, folded, wanted, quantifier, rest != operator)


def _check_values(operator: str, wanted: Sequence[str], where: str) -> None:
    if operator in {"Null", "Bool"} and [text.lower() for text in wanted] not in (
        ["true"],
        ["false"],
    ):
        raise _refusal(f"{where} must have one value, true or false")
    if operator.startswith("Arn") and not all(map(is_arn_pattern, wanted)):
        raise _refusal(f"{where} must have ARNs of six parts, each with wildcards or without")


def _texts(values: object, where: str) -> tuple[str, ...]:
    listed = [values] if isinstance(values, str | bool) else values
    if not isinstance(listed, Sequence) or not listed:
        raise _refusal(f"{where} must have a text or a list of texts")
    # JSON's true and "true" are the same to IAM.
    wanted = [str(v).lower() if isinstance(v, bool) else v for v in listed]
    if not all(isinstance(text, str) and "${" not in text for text in wanted):
        raise _refusal(f"{where} must have texts without policy variables")
    return tuple(wanted)


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _refusal(f"{where} is no object")
    return value


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the policy is refused: {reason}")
