"""Mistakes of clauses 8 and 9: what is tried instead of a refusal, and packed cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.vectors.mistakes.planting import Methods, Mistakes, Wrong, right
from tests.vectors.reader import Header, Reader
from tests.vectors.values import RefusedError, require


def _less(pairs: Mapping[str, str], names: Any) -> dict[str, str]:
    return {name: text for name, text in pairs.items() if name not in names}


def _retried(change: Wrong) -> Methods:
    """Another context tried where the KMS refuses the right one."""

    def unwrap(self: Reader, header: Header, context: Any, case: Any, arn: str) -> Any:
        try:
            return right("unwrap")(self, header, context, case, arn)
        except RefusedError:
            return right("unwrap")(self, header, change(context, case), case, arn)

    return {"unwrap": unwrap}


def _similar(condition: Wrong) -> Methods:
    """A KMS whose context is compared otherwise; the condition is of both contexts."""

    def unwrap(self: Reader, header: Header, context: Any, case: Any, arn: str) -> Any:
        wrapped_under = case["context"]
        given = wrapped_under if condition(context, wrapped_under) else context
        return right("unwrap")(self, header, given, case, arn)

    return {"unwrap": unwrap}


def _each_key(self: Reader, header: Header, context: Any, case: Any, arn: str) -> Any:
    for each in [arn, *self.arns(case)]:
        try:
            return right("unwrap")(self, header, context, case, each)
        except RefusedError:
            continue
    raise RefusedError("WrongCellError")


def _again(change: Wrong) -> Methods:
    """Other associated data tried where the right one does not authenticate."""

    def decrypt(self: Reader, header: Header, key: bytes, associated: bytes) -> Any:
        try:
            return right("decrypt")(self, header, key, associated)
        except RefusedError:
            return right("decrypt")(self, header, key, change(associated))

    return {"decrypt": decrypt}


def _bound_to(rows: Wrong, scopes: Wrong) -> Methods:
    """Other parts tried; both are of all parts and of the number of those of the row."""

    def change(bound: bytes) -> bytes:
        at = 6
        for _ in ("table", "column"):
            at += 2 + int.from_bytes(bound[at : at + 2], "big")
        parts, number = bound[at:].split(b":")[:-1], bound[4]
        row, scope = rows(parts, number), scopes(parts, number)
        counts = bytes([len(row), len(scope)])
        return bound[:4] + counts + bound[6:at] + b"".join(p + b":" for p in row + scope)

    return _again(change)


def _type(change: Wrong) -> Methods:
    """Another value type tried."""
    return _again(lambda bound: bound[:3] + bytes([change(bound[3])]) + bound[4:])


def _as_bytes(self: Reader, value_type: int, payload: bytes) -> Any:
    try:
        return right("value")(self, value_type, payload)
    except RefusedError:
        return "bytes", payload.hex()


def _unpacked(end_of: Wrong, condition: Wrong) -> Methods:
    """Another end of the parts, or another number of them taken."""

    def unpack(_: Reader, packed: bytes, count: int) -> tuple[bytes, bytes]:
        end = end_of(packed)
        require(end >= 0 and condition(packed[:end].count(b":"), count, packed[:end]))
        return packed[:end], packed[end:]

    return {"unpack": unpack}


def _mark(packed: bytes) -> int:
    return packed.find(b"\xe5\x01")


def _exact(given: int, count: int, parts: bytes) -> bool:
    return given == count and parts[-1:] in (b"", b":")


def _colons(self: Reader, packed: bytes, count: int) -> Any:
    parts = packed.split(b":", count)
    require(len(parts) > count)
    return b"".join(part + b":" for part in parts[:count]), parts[count]


def _cut_to(packed: bytes, count: int) -> Any:
    """The first parts, however many there are."""
    end = _mark(packed)
    require(end >= 0)
    parts = packed[:end].split(b":")[:-1]
    return b"".join(part + b":" for part in parts[:count]), packed[end:]


def _null_where_empty(self: Reader, case: Any) -> Any:
    packed = right("packed")(self, case)
    require(packed, "NULL")
    return packed


MISTAKES: Mistakes = {
    "9.5 KMS refuses: tried without the keyring's pairs": _retried(
        lambda pairs, case: _less(pairs, case["keyring_context"])
    ),
    "9.5 KMS refuses: tried without the scope pairs": _retried(
        lambda pairs, case: _less(pairs, case["cell"]["scope_columns"])
    ),
    "9.5 KMS refuses: tried without kmsenv:row": _retried(
        lambda pairs, _: _less(pairs, ["kmsenv:row"])
    ),
    "9.5 KMS refuses: tried with kmsenv:row": _retried(
        lambda pairs, case: {**pairs, "kmsenv:row": ":".join(case["cell"]["row"])}
    ),
    "9.5 KMS refuses: tried without kmsenv:column": _retried(
        lambda pairs, _: _less(pairs, ["kmsenv:column"])
    ),
    "9.5 KMS refuses: tried without any pair": _retried(lambda *_: {}),
    "9.2 each KMS key asked in turn": {"unwrap": _each_key},
    "9.2 pairs beyond the reader's not looked at": _similar(
        lambda own, under: own.items() <= under.items()
    ),
    "9.2 pairs of the reader's beyond not looked at": _similar(
        lambda own, under: under.items() <= own.items()
    ),
    "9.2 names of the context compared without case": _similar(
        lambda own, under: {k.lower(): own[k] for k in own} == {k.lower(): under[k] for k in under}
    ),
    "9.3 the context not looked at": _similar(lambda *_: True),
    "9.5 does not authenticate: tried without row parts": _bound_to(
        lambda *_: [], lambda parts, rows: parts[rows:]
    ),
    "9.5 does not authenticate: tried without scope parts": _bound_to(
        lambda parts, rows: parts[:rows], lambda *_: []
    ),
    "9.5 does not authenticate: tried with scope parts as row parts": _bound_to(
        lambda parts, _: parts, lambda *_: []
    ),
    "9.5 does not authenticate: tried with the first row part": _bound_to(
        lambda parts, _: parts[:1], lambda parts, rows: parts[rows:]
    ),
    "9.5 does not authenticate: tried without associated data": _again(lambda _: b""),
    "9.5 does not authenticate: tried with the other padding bit": _type(
        lambda value_type: value_type ^ 0x80
    ),
    "9.5 does not authenticate: tried as bytes": _type(lambda value_type: value_type & 0x80 | 1),
    "9.5 a payload that is not of its type returned as bytes": {"value": _as_bytes},
    "8.3 the parts end at the last e5 01": _unpacked(
        lambda packed: packed.rfind(b"\xe5\x01"), _exact
    ),
    "8.3 the parts end at the last colon": _unpacked(lambda packed: packed.rfind(b":") + 1, _exact),
    "8.3 the number of parts not looked at": _unpacked(_mark, lambda *_: True),
    "8.3 more parts taken": _unpacked(_mark, lambda given, count, _: given >= count),
    "8.3 fewer parts taken": _unpacked(_mark, lambda given, count, _: given <= count),
    "8.3 the first parts taken of more": {
        "unpack": lambda _, packed, count: _cut_to(packed, count)
    },
    "8.3 no colon asked for behind the last part": _unpacked(
        _mark, lambda given, count, parts: given + (parts[-1:] not in (b"", b":")) == count
    ),
    "8.3 text behind the last colon taken": _unpacked(
        _mark, lambda given, count, _: given == count
    ),
    "8.2 an empty packed cell is NULL": {"packed": _null_where_empty},
}
