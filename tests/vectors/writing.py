"""How a case of the vectors is made."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.cell import Cell
from sqlalchemy_kmsenv.codecs import Codec
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, serialize_header
from tests.vectors.opening import KEY_ARN, KEYRING_CONTEXT, TEXT_OF, context_of

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
    cipher = ValueCipher(DATA_KEYS[key])
    wrapped = WRAPPED[key] if wrapped is None else wrapped
    fingerprint = key_fingerprint(key_arn or KEY_ARN)
    reference = InlineReference(fingerprint, HINTS[key], cipher.commitment, wrapped)
    value_type = codec.value_type | (codecs.PADDED if pad_to else 0)
    if payload is None:
        payload = codec.encode(value)
        payload = codecs.pad(payload, pad_to) if pad_to else payload
    where = Cell(
        cell["table"],
        cell["column"],
        tuple(part.encode() for part in cell["row"]),
        tuple(part.encode() for part in cell["scope"]),
    )
    (envelope,) = cipher.seal_many(
        serialize_header(reference, value_type),
        where.associated_data(value_type),
        [b""],
        [payload],
        hashlib.sha256((nonce_of or name).encode()).digest()[:12],
    )
    own_key = {} if key_arn is None else {"key_arn": key_arn}
    return {
        "name": name,
        **own_key,
        "data_key": DATA_KEYS[key].hex(),
        "wrapped": wrapped.hex(),
        "context": KEYRING_CONTEXT | context_of(cell),
        "cell": cell,
        "envelope": envelope.hex(),
        "outcome": "opens",
        "value": {"type": codec.name, "text": TEXT_OF[codec.name](value)},
    }


def refused(name: str, outcome: str, old: Case, envelope: bytes | None = None, **new: Any) -> Case:
    """``old`` with other bytes, or found elsewhere."""
    stored = old["envelope"] if envelope is None else envelope.hex()
    return old | {"name": name, "envelope": stored, "outcome": outcome, "value": None} | new
