"""IAM policies of principals: parsed strictly, evaluated as IAM does.

Whatever this module cannot evaluate it refuses when the policy is given: a condition
that silently never holds would make a test pass for the wrong reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.conditions import (
    Condition,
    Facts,
    is_arn_pattern,
    parse_conditions,
    wildcard,
)
from sqlalchemy_kmsenv.testing.service_model import operations

PolicyDocument = Mapping[str, Any] | str
"""An IAM policy, as JSON text or as what that parses to."""

_Effect = Literal["Allow", "Deny"]
_VERSIONS = ("2012-10-17", "2008-10-17")
_SID = re.compile(r"[A-Za-z0-9]+")
_SERVICE = re.compile(r"[a-z0-9-]+")
# Permissions that are no operations, and an operation that the oldest botocore does not know.
_MORE_ACTIONS = frozenset(
    {"ReEncryptFrom", "ReEncryptTo", "SynchronizeMultiRegionKey", "ListKeyRotations"}
)
_ELEMENTS = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)


@dataclass(frozen=True, slots=True)
class Question:
    """May somebody do ``action`` (``kms:Decrypt``) with ``resource``, given these facts?"""

    action: str
    resource: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class _Names:
    """Patterns of actions or resources, or everything but them."""

    patterns: tuple[str, ...]
    excepted: bool
    ignore_case: bool

    def cover(self, name: str) -> bool:
        flags = re.IGNORECASE if self.ignore_case else 0
        found = any(wildcard(pattern, flags).fullmatch(name) for pattern in self.patterns)
        return found is not self.excepted


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; all three parts must fit."""

    effect: _Effect
    actions: _Names
    resources: _Names
    conditions: tuple[Condition, ...]

    def fits(self, question: Question) -> bool:
        """Whether it has a say in this question."""
        return (
            self.actions.cover(question.action)
            and self.resources.cover(question.resource)
            and all(condition.holds(question.facts) for condition in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The statements of all policies of one principal."""

    statements: tuple[Statement, ...]

    def effect(self, question: Question) -> _Effect | None:
        """``Deny`` before ``Allow``; None where no statement fits, which is no permission."""
        effects = {s.effect for s in self.statements if s.fits(question)}
        return "Deny" if "Deny" in effects else ("Allow" if "Allow" in effects else None)


def parse_policy(*documents: PolicyDocument) -> Policy:
    """The statements of ``documents`` together.

    Raises:
        ConfigurationError: a document is no identity policy, or uses what this server
            does not evaluate; the message names the place.
    """
    return Policy(tuple(s for document in documents for s in _statements(document)))


def _statements(document: PolicyDocument) -> list[Statement]:
    content = _loaded(document)
    if not isinstance(content, Mapping) or content.keys() - {"Version", "Id", "Statement"}:
        raise _refusal("it must have Version and Statement, and nothing else but Id")
    if content.get("Version", _VERSIONS[-1]) not in _VERSIONS:
        raise _refusal(f"Version must be {_VERSIONS[0]!r}")
    statements = content.get("Statement")
    listed = statements if isinstance(statements, list | tuple) else [statements]
    if not listed:
        raise _refusal("Statement is empty")
    parsed = [_statement(one, f"Statement[{i}]") for i, one in enumerate(listed)]
    _check_names_of_statements([o["Sid"] for o in listed if isinstance(o, Mapping) and "Sid" in o])
    return parsed


def _check_names_of_statements(names: Sequence[object]) -> None:
    for name in names:
        if not isinstance(name, str) or not _SID.fullmatch(name):
            raise _refusal(f"Sid {name!r} is not of letters and digits alone")
        if names.count(name) > 1:
            raise _refusal(f"Sid {name!r} names several statements")


def _loaded(document: PolicyDocument) -> object:
    if not isinstance(document, str):
        return document
    try:
        return json.loads(document, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise _refusal("it is not JSON") from error


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _refusal(f"{repeated!r} stands twice in one object of the JSON")
    return found


def _statement(content: object, where: str) -> Statement:
    if not isinstance(content, Mapping):
        raise _refusal(f"{where} is no object")
    unknown = sorted(content.keys() - _ELEMENTS)
    if unknown:
        raise _refusal(f"{where} has {unknown}, which an identity policy has not")
    effect = content.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise _refusal(f"{where}.Effect must be Allow or Deny")
    return Statement(
        effect,
        _names(content, "Action", where, ignore_case=True),
        _names(content, "Resource", where, ignore_case=False),
        parse_conditions(content.get("Condition", {}), where),
    )


def _names(content: Mapping[str, Any], element: str, where: str, *, ignore_case: bool) -> _Names:
    given = [name for name in (element, f"Not{element}") if name in content]
    if len(given) != 1:
        raise _refusal(f"{where} must have either {element} or Not{element}")
    patterns = _texts(content[given[0]], f"{where}.{given[0]}")
    for pattern in patterns:
        if pattern != "*":
            _CHECKS[element](pattern, f"{where}.{given[0]}")
    return _Names(patterns, given[0].startswith("Not"), ignore_case)


def _check_action(pattern: str, where: str) -> None:
    service, _, name = pattern.lower().partition(":")
    if not _SERVICE.fullmatch(service) or not name:
        raise _refusal(f"{where}: {pattern!r} is not like kms:Decrypt, nor '*'")
    if service == "kms" and not set(name) & set("*?") and name not in _kms_actions():
        raise _refusal(f"{where}: {pattern!r} is no action of KMS")


def _check_resource(pattern: str, where: str) -> None:
    if not is_arn_pattern(pattern):
        raise _refusal(f"{where}: {pattern!r} is neither an ARN of six parts nor '*'")


_CHECKS = {"Action": _check_action, "Resource": _check_resource}


@cache
def _kms_actions() -> frozenset[str]:
    return frozenset(name.lower() for name in (operations() - {"ReEncrypt"}) | _MORE_ACTIONS)


def _texts(value: object, where: str) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not listed:
        raise _refusal(f"{where} must be a text or a list of texts")
    for text in listed:
        if not isinstance(text, str) or "${" in text:
            raise _refusal(f"{where} must hold texts without policy variables")
    return tuple(listed)


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the policy is refused: {reason}")
