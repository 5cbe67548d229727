"""How a case of the vectors is made."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.cell import Cell
from sqlalchemy_kmsenv.codecs import Codec
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, serialize_header
from tests.vectors.opening import KEY_ARN, KEYRING_CONTEXT, LENGTH_AT, TEXT_OF, context_of

Case = dict[str, Any]

DATA_KEYS = (bytes(range(32)), bytes(range(32, 64)))
WRAPPED = (b"first wrapped data key", b"second wrapped data key")
HINTS = (bytes(8), bytes.fromhex("0123456789abcdef"))


def place(
    *row: str,
    table: str = "pings",
    column: str = "position",
    scope: tuple[str, ...] = (),
    scope_columns: tuple[str, ...] = (),
    scope_is_row: bool = False,
) -> Case:
    """A cell as vectors describe it."""
    return {
        "table": table,
        "column": column,
        "row": list(row),
        "scope": list(scope),
        "scope_columns": list(scope_columns),
        "scope_is_row": scope_is_row,
    }


def case(
    name: str,
    cell: Case,
    codec: Codec,
    value: Any,
    *,
    key: int = 0,
    pad_to: int | None = None,
    payload: bytes | None = None,
    nonce_of: str | None = None,
    wrapped: bytes | None = None,
    key_arn: str | None = None,
) -> Case:
    """A value sealed in its cell."""
    if payload is None:
        payload = codec.encode(value)
        payload = codecs.pad(payload, pad_to) if pad_to else payload
    value_type = codec.value_type | (codecs.PADDED if pad_to else 0)
    text = TEXT_OF[codec.name](value)
    return sealed(
        name, codec.name, value_type, payload, text, cell=cell, data_key=DATA_KEYS[key],
        wrapped=WRAPPED[key] if wrapped is None else wrapped, hint=HINTS[key], key_arn=key_arn,
        nonce_of=nonce_of,
    )  # fmt: skip


def sealed(
    name: str,
    kind: str,
    value_type: int,
    payload: bytes,
    text: str,
    *,
    cell: Case,
    sealed_in: Case | None = None,
    sealed_as: int | None = None,
    associated: bytes | None = None,
    data_key: bytes = DATA_KEYS[0],
    wrapped: bytes = WRAPPED[0],
    hint: bytes = HINTS[0],
    key_arn: str | None = None,
    nonce_of: str | None = None,
) -> Case:
    """Any payload sealed in a cell; ``sealed_in``, ``sealed_as`` and ``associated`` in another."""
    cipher = ValueCipher(data_key)
    fingerprint = key_fingerprint(key_arn or KEY_ARN)
    header = serialize_header(
        InlineReference(fingerprint, hint, cipher.commitment, wrapped or b"w"), value_type
    )
    if not wrapped:
        header = header[:LENGTH_AT] + bytes(2) + header[-1:]
    if associated is None:
        where = _cell(sealed_in or cell)
        associated = where.associated_data(value_type if sealed_as is None else sealed_as)
    nonce = hashlib.sha256((nonce_of or name).encode()).digest()[:12]
    (envelope,) = cipher.seal_many(header, associated, [b""], [payload], nonce)
    own_key = {} if key_arn is None else {"key_arn": key_arn}
    return {
        "name": name,
        **own_key,
        "data_key": data_key.hex(),
        "wrapped": wrapped.hex(),
        "context": KEYRING_CONTEXT | context_of(cell),
        "cell": cell,
        "envelope": envelope.hex(),
        "outcome": "opens",
        "value": {"type": kind, "text": text},
    }


def _cell(cell: Case) -> Cell:
    return Cell(
        cell["table"],
        cell["column"],
        tuple(part.encode() for part in cell["row"]),
        tuple(part.encode() for part in cell["scope"]),
    )


def refused(name: str, outcome: str, old: Case, envelope: bytes | None = None, **new: Any) -> Case:
    """``old`` with other bytes, or found elsewhere."""
    stored = old["envelope"] if envelope is None else envelope.hex()
    return old | {"name": name, "envelope": stored, "outcome": outcome, "value": None} | new
