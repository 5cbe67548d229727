"""How a vector is opened: the library's own steps, with a table of data keys as the KMS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy_kmsenv.aead import AuthenticationError
from sqlalchemy_kmsenv.cell import Cell, context_text
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, PADDED, unpad
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.errors import EnvelopeError, WrongCellError
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.kms import GeneratedDataKey, ReWrappedDataKey

VECTORS = Path(__file__).with_name("format-1.json")

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/6e3f6c5e-0000-4000-8000-000000000001"
KEYRING_CONTEXT = {"app": "vectors"}

TEXT_OF: Mapping[str, Callable[[Any], str]] = {
    "bytes": bytes.hex,
    "str": str,
    "int": str,
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


def open_envelope(case: Mapping[str, Any], stored: bytes) -> tuple[str, Any]:
    """Type name and value of ``stored``, found in the cell of ``case``."""
    cell = case["cell"]
    where = Cell(
        cell["table"],
        cell["column"],
        tuple(part.encode() for part in cell["row"]),
        tuple(part.encode() for part in cell["scope"]),
    )
    header = parse_header(stored)
    codec = CODEC_OF_VALUE_TYPE.get(header.value_type & ~PADDED)
    if codec is None:
        raise EnvelopeError("unknown value type")
    data_key = bytes.fromhex(case["data_key"])
    key_arn = case.get("key_arn", KEY_ARN)
    kms = TableKms(bytes.fromhex(case["wrapped"]), case["context"], data_key, key_arn)
    keyring = Keyring(kms, context=KEYRING_CONTEXT)
    pairs = tuple(sorted(context_of(cell).items()))
    cipher = keyring.opening_key(pairs, header.reference).cipher
    assert cipher is not None
    try:
        payload = cipher.open(stored, header.size, where.associated_data(header.value_type))
    except AuthenticationError:
        raise WrongCellError("does not authenticate here", cell=where) from None
    try:
        return codec.name, codec.decode(unpad(payload) if header.value_type & PADDED else payload)
    except Exception as error:
        raise EnvelopeError("does not decode") from error
