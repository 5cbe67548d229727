"""IAM policies of principals: parsed strictly, evaluated as IAM does.

Whatever this module cannot evaluate it refuses when the policy is given: a condition
that silently never holds would make a test pass for the wrong reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.conditions import Condition, Facts, parse_conditions, wildcard

PolicyDocument = Mapping[str, Any] | str
"""An IAM policy, as JSON text or as what that parses to."""

_Effect = Literal["Allow", "Deny"]
_VERSIONS = ("2012-10-17", "2008-10-17")
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
    return [_statement(one, f"Statement[{i}]") for i, one in enumerate(listed)]


def _loaded(document: PolicyDocument) -> object:
    if not isinstance(document, str):
        return document
    try:
        return json.loads(document)
    except ValueError as error:
        raise _refusal("it is not JSON") from error


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
    return _Names(patterns, given[0].startswith("Not"), ignore_case)


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
