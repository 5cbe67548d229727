"""Python values to payload bytes and back (FORMAT.md, clause 6).

The type of a value is one byte of the envelope, in the clear and authenticated,
so that a payload is the bare value: no copy of a large one to add a tag to it.
"""

from __future__ import annotations

import datetime
import decimal
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy_kmsenv.errors import EnvelopeError
from sqlalchemy_kmsenv.json_text import json_from_bytes, json_to_bytes

PADDED = 0x80
"""Set in the value type of a padded payload."""
_PAD_MARK = b"\x80"

_LONGEST_OFFSET = len("+HH:MM:SS.ffffff")

_TIMEDELTA = struct.Struct(">iII")
_FLOAT = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of one Python type are written; ``encode`` and ``decode`` are inverse."""

    value_type: int
    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _int_to_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


def _int_from_bytes(payload: bytes) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _bool_from_bytes(payload: bytes) -> bool:
    if payload not in (b"\x00", b"\x01"):
        raise ValueError("a bool is one byte, 0 or 1")
    return payload == b"\x01"


def _timedelta_to_bytes(value: datetime.timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _timedelta_from_bytes(payload: bytes) -> datetime.timedelta:
    days, seconds, microseconds = _TIMEDELTA.unpack(payload)
    return datetime.timedelta(days, seconds, microseconds)


def _time_parser(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """``fromisoformat`` that also keeps a UTC offset of less than a second, which Python drops."""

    def from_bytes(payload: bytes) -> Any:
        text = payload.decode("ascii")
        offset = text[-_LONGEST_OFFSET:]
        if offset[:1] not in ("+", "-"):
            return parse(text)
        hours, minutes, seconds = offset[1:].split(":")
        whole, fraction = seconds.split(".")
        size = datetime.timedelta(0, int(whole), int(fraction), 0, int(minutes), int(hours))
        zone = datetime.timezone(size if offset[0] == "+" else -size)
        return parse(text[:-_LONGEST_OFFSET]).replace(tzinfo=zone)

    return from_bytes


def _float_from_bytes(payload: bytes) -> float:
    (value,) = _FLOAT.unpack(payload)
    return float(value)


def _one_spelling(
    value_type: int, name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
) -> Codec:
    """A codec that refuses every payload but the one that ``encode`` writes for its value."""

    def decode_exactly(payload: bytes) -> Any:
        value = decode(payload)
        if encode(value) != payload:
            raise ValueError("a second spelling")
        return value

    return Codec(value_type, name, encode, decode_exactly)


BYTES = Codec(0x01, "bytes", bytes, bytes)
STR = Codec(0x02, "str", str.encode, bytes.decode)
INT = _one_spelling(0x03, "int", _int_to_bytes, _int_from_bytes)
FLOAT = Codec(0x04, "float", _FLOAT.pack, _float_from_bytes)
DECIMAL = _one_spelling(
    0x05, "Decimal", lambda v: str(v).encode(), lambda p: decimal.Decimal(p.decode("ascii"))
)
BOOL = Codec(0x06, "bool", lambda v: b"\x01" if v else b"\x00", _bool_from_bytes)
DATE = _one_spelling(
    0x07,
    "date",
    lambda v: v.isoformat().encode(),
    lambda p: datetime.date.fromisoformat(p.decode("ascii")),
)
TIME = _one_spelling(
    0x08,
    "time",
    lambda v: v.isoformat().encode(),
    _time_parser(datetime.time.fromisoformat),
)
DATETIME = _one_spelling(
    0x09,
    "datetime",
    lambda v: v.isoformat().encode(),
    _time_parser(datetime.datetime.fromisoformat),
)
TIMEDELTA = _one_spelling(0x0A, "timedelta", _timedelta_to_bytes, _timedelta_from_bytes)
UUID = Codec(0x0B, "UUID", lambda v: v.bytes, lambda p: uuid.UUID(bytes=p))
JSON = Codec(0x0C, "JSON", json_to_bytes, json_from_bytes)
ENUM = Codec(0x0D, "Enum", str.encode, bytes.decode)

CODECS = (
    BYTES, STR, INT, FLOAT, DECIMAL, BOOL, DATE, TIME, DATETIME, TIMEDELTA, UUID, JSON, ENUM,
)  # fmt: skip
CODEC_OF_VALUE_TYPE = {codec.value_type: codec for codec in CODECS}


def pad(payload: bytes, multiple: int) -> bytes:
    """``payload``, 0x80 and as few zeros as make the length a multiple of ``multiple``."""
    zeros = -(len(payload) + 1) % multiple
    return payload + _PAD_MARK + bytes(zeros)


def unpad(padded: bytes) -> bytes:
    """What ``pad`` was given.

    Raises:
        EnvelopeError: no padding mark before the zeros.
    """
    payload = padded.rstrip(b"\x00")
    if payload[-1:] != _PAD_MARK:
        raise EnvelopeError("malformed payload: padding without its mark")
    return payload[:-1]
