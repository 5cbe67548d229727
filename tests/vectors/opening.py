"""How a vector is opened: by a column of the library, with a table of data keys as the KMS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.cell import context_text
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, ENUM, PADDED, STR
from sqlalchemy_kmsenv.envelope import key_fingerprint
from sqlalchemy_kmsenv.errors import WrongCellError
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.kms import GeneratedDataKey, ReWrappedDataKey

VECTORS = Path(__file__).with_name("format-1.json")

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/6e3f6c5e-0000-4000-8000-000000000001"
KEYRING_CONTEXT = {"app": "vectors"}
LENGTH_AT = 52

_KEY_TYPES: Mapping[str, type[TypeEngine[Any]]] = {
    "i": Integer, "s": String, "u": Uuid, "b": LargeBinary, "d": Date, "t": DateTime,
}  # fmt: skip
_INNER_TYPES: Mapping[int, type[TypeEngine[Any]]] = {
    1: LargeBinary, 2: String, 3: Integer, 4: Float, 5: Numeric, 6: Boolean, 7: Date, 8: Time,
    9: DateTime, 10: Interval, 11: Uuid, 12: JSON,
}  # fmt: skip

TEXT_OF: Mapping[str, Callable[[Any], str]] = {
    "bytes": bytes.hex,
    "str": str,
    "int": lambda value: str(Decimal(value)),  # without Python's limit of digits
    "float": float.hex,
    "Decimal": str,
    "bool": lambda value: "true" if value else "false",
    "date": lambda value: value.isoformat(),
    "time": lambda value: value.isoformat(),
    "datetime": lambda value: value.isoformat(),
    "timedelta": lambda value: f"{value.days} {value.seconds} {value.microseconds}",
    "UUID": str,
    "JSON": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "Enum": str,
}
"""How a vector writes a value of each type as text."""


class TableKms:
    """A KMS that knows the one wrapped data key of a vector, under its one context."""

    def __init__(
        self, wrapped: bytes, context: Mapping[str, str], data_key: bytes, key_arn: str = KEY_ARN
    ) -> None:
        self._wrapped = wrapped
        self._context = dict(context)
        self._data_key = data_key
        self._key_arn = key_arn

    def resolve(self) -> str:
        return self._key_arn

    def generate_data_key(self, context: Mapping[str, str]) -> GeneratedDataKey:
        raise NotImplementedError

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], *, key_arn: str) -> bytearray:
        if (wrapped, dict(context), key_arn) != (self._wrapped, self._context, self._key_arn):
            raise WrongCellError("not wrapped by this key under this context")
        return bytearray(self._data_key)

    def rewrap(
        self,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        key_arn: str,
        new_context: Mapping[str, str] | None = None,
    ) -> ReWrappedDataKey:
        raise NotImplementedError


def context_of(cell: Mapping[str, Any]) -> dict[str, str]:
    """The encryption context of a vector's cell, without the keyring's own pairs (clause 7)."""
    pairs = {"kmsenv:table": cell["table"], "kmsenv:column": cell["column"]}
    for name, part in zip(cell["scope_columns"], cell["scope"], strict=True):
        pairs[name] = context_text(part.encode())
    if cell["scope_is_row"]:
        pairs["kmsenv:row"] = ":".join(cell["row"])
    return pairs


def opener(case: Mapping[str, Any], value_type: int) -> Callable[[bytes], Any]:
    """What opens packed cells of a column declared as the cell of ``case`` says.

    Raises:
        ConfigurationError: no column can be declared so.
    """
    cell = case["cell"]
    metadata = MetaData()
    rows = [
        Column(f"row {at}", _KEY_TYPES[part[0]](), primary_key=True)
        for at, part in enumerate(cell["row"])
    ]
    scopes = [
        Column(name, _KEY_TYPES.get(part[0], String)(), nullable=False)
        for name, part in zip(cell["scope_columns"], cell["scope"], strict=True)
    ]
    encrypted = Encrypted[Any](
        _inner_type(case, value_type),
        name=f"{cell['table']}.{cell['column']}",
        scope="row" if cell["scope_is_row"] else cell["scope_columns"] or "column",
        bind="row" if rows else "column",
    )
    Table("rows", metadata, *rows, *scopes, Column("sealed", encrypted))
    attach_keyrings(metadata, keyring_of(case))
    return encrypted.result_processor(sqlite.dialect(), None)


def keyring_of(case: Mapping[str, Any]) -> Keyring:
    """A keyring of the KMS keys that the reader of a case has."""
    wrapped, data_key = bytes.fromhex(case["wrapped"]), bytes.fromhex(case["data_key"])
    own = case.get("key_arn", KEY_ARN)
    keys = [
        TableKms(
            wrapped if key_fingerprint(arn) == key_fingerprint(own) else b"",
            case["context"], data_key, arn,
        )
        for arn in case.get("key_arns", [own])
    ]  # fmt: skip
    return Keyring(keys[0], unwrap_only=keys[1:], context=KEYRING_CONTEXT)


def open_envelope(case: Mapping[str, Any], stored: bytes) -> tuple[str, Any]:
    """Type name and value of ``stored``, found in the cell of ``case``, as a SELECT finds it.

    It is opened twice: a second value like the one before it goes a shorter way.
    """
    cell = case["cell"]
    section = "".join(f"{part}:" for part in [*cell["row"], *cell["scope"]]).encode()
    packed = bytes.fromhex(case["packed"]) if "packed" in case else section + stored
    value_type = _value_type(stored)
    codec = CODEC_OF_VALUE_TYPE.get(value_type & ~PADDED, STR)
    open_cell = opener(case, value_type)
    first, again = open_cell(packed), open_cell(packed)
    if TEXT_OF[codec.name](first) != TEXT_OF[codec.name](again):
        raise AssertionError("the short way opens another value")
    return codec.name, first


def _value_type(stored: bytes) -> int:
    """Where the header has its value type, if it is long enough."""
    at = LENGTH_AT + 2 + int.from_bytes(stored[LENGTH_AT : LENGTH_AT + 2], "big")
    return stored[at] if at < len(stored) else STR.value_type


def _inner_type(case: Mapping[str, Any], value_type: int) -> TypeEngine[Any]:
    kind = value_type & ~PADDED
    if kind == ENUM.value_type:
        return Enum(case["value"]["text"] if case["value"] else "ACTIVE")
    return _INNER_TYPES.get(kind, String)()
