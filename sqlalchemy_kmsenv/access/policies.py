"""The least IAM policies for what a role does with the columns of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy_kmsenv import context
from sqlalchemy_kmsenv.access.contexts import ColumnContext
from sqlalchemy_kmsenv.access.sizes import MANAGED_CHARACTERS, Document, Statement, packed
from sqlalchemy_kmsenv.errors import ConfigurationError


class Role(StrEnum):
    """What somebody does with encrypted columns."""

    WRITER = "writer"
    """Inserts and overwrites values; cannot read them back, once its data keys are gone."""
    READER = "reader"
    REWRAP = "rewrap"
    """Runs `kmsenv survey` and `kmsenv rewrap`; can never see a value.

    It can move a data key from any context of its policy to any other of it, and so to
    whoever may read there: docs/operating.md.
    """
    AUDITOR = "auditor"
    """Looks at the keys, their state and rotation, and at no value."""


_AUDITS = ["kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListKeyRotations"]
_ONE_KEY = {"kms:ReEncryptOnSameKey": "true"}


def policies(
    role: Role | str,
    contexts: Iterable[ColumnContext],
    keys: Mapping[str, Sequence[str]],
    *,
    describe: bool = False,
    limit: int = MANAGED_CHARACTERS,
) -> list[Document]:
    """As few policies as hold the permissions of ``role`` for these columns; usually one.

    ``keys`` has the ARNs of each keyring, the one that wraps first; those of replicas
    in other Regions, and of former keys, follow. ``describe`` adds
    ``kms:DescribeKey`` for a reader whose keyring names its key by alias or id.

    Raises:
        ConfigurationError: no column, no key of a keyring, or a statement that is too long.
    """
    listed = list(contexts)
    if not listed:
        raise ConfigurationError("a policy for no column would allow nothing: name some")
    arns = {one.keyring: _arns(keys, one.keyring) for one in listed}
    statements = [
        statement
        for group in _groups(listed)
        for statement in _uses(Role(role), group, arns[group[0].keyring])
    ]
    return packed([*statements, *_inspections(Role(role), arns, describe=describe)], limit)


def _uses(role: Role, group: Sequence[ColumnContext], arns: Sequence[str]) -> list[Statement]:
    conditions = _conditions(group)
    if role is Role.WRITER:
        return [_allow(["kms:GenerateDataKey"], arns[:1], conditions)]
    if role is Role.READER:
        return [_allow(["kms:Decrypt"], arns, conditions)]
    if role is Role.AUDITOR:
        return []
    if len(arns) == 1:
        same = {**conditions, "Bool": _ONE_KEY}
        return [_allow(["kms:ReEncryptFrom", "kms:ReEncryptTo"], arns, same)]
    return [
        _allow(["kms:ReEncryptFrom"], arns, conditions),
        _allow(["kms:ReEncryptTo"], arns[:1], conditions),
    ]


def _inspections(
    role: Role, arns: Mapping[str, Sequence[str]], *, describe: bool
) -> list[Statement]:
    everything = list(dict.fromkeys(arn for several in arns.values() for arn in several))
    if role is Role.AUDITOR:
        return [_allow(_AUDITS, everything, {})]
    if role is Role.REWRAP:
        # The job asks which key material wraps now, to know what is left to do.
        wrapping = list(dict.fromkeys(several[0] for several in arns.values()))
        return [_allow(["kms:DescribeKey"], everything if describe else wrapping, {})]
    if role is Role.READER and describe:
        return [_allow(["kms:DescribeKey"], everything, {})]
    return []


def _groups(contexts: Sequence[ColumnContext]) -> list[list[ColumnContext]]:
    # Columns of one table that differ in nothing else share a statement. Tables never do: a
    # list of tables beside a list of columns would allow columns that a table has not.
    groups: dict[Any, list[ColumnContext]] = {}
    for one in contexts:
        key = (one.keyring, one.table, one.fixed, one.limited, one.open)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _conditions(group: Sequence[ColumnContext]) -> dict[str, Any]:
    first = group[0]
    equals: dict[str, Any] = {
        context.TABLE: first.table,
        context.COLUMN: _one_or_many([one.column for one in group]),
        **dict(first.fixed),
        **{name: _one_or_many(values) for name, values in first.limited},
    }
    conditions: dict[str, Any] = {
        "StringEquals": {_key(name): _literal(value) for name, value in equals.items()}
    }
    if first.open:
        conditions["Null"] = {_key(name): "false" for name in first.open}
    # No pair more than these; that none is missing the other two say, without which this one
    # would admit a request without any context.
    names = {"kms:EncryptionContextKeys": _literal(first.names)}
    return {**conditions, "ForAllValues:StringEquals": names}


def _allow(
    actions: Sequence[str], arns: Sequence[str], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Action": _one_or_many(actions),
        "Resource": _one_or_many(arns),
    }
    return {**statement, "Condition": dict(conditions)} if conditions else statement


def _arns(keys: Mapping[str, Sequence[str]], keyring: str) -> list[str]:
    arns = list(dict.fromkeys(keys.get(keyring, ())))
    if not arns:
        raise ConfigurationError(f"the policy needs the ARN of the KMS key of keyring {keyring!r}")
    return arns


def _key(name: str) -> str:
    return f"kms:EncryptionContext:{name}"


def _one_or_many(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _literal(value: str | Sequence[str]) -> Any:
    # IAM would take ${...} for a variable; ${$} is a dollar.
    if isinstance(value, str):
        return value.replace("${", "${$}{")
    return [_literal(one) for one in value]
