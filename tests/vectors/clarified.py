"""Cases for what readers got wrong: each catches one of ``bugs`` at least."""

from __future__ import annotations

import datetime
import struct
import uuid
from collections.abc import Iterator
from decimal import Decimal

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    DATETIME_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.codecs import Codec
from sqlalchemy_kmsenv.envelope import MAX_WRAPPED_BYTES, key_fingerprint
from sqlalchemy_kmsenv.json_text import MAX_DEPTH
from tests.vectors.opening import KEY_ARN
from tests.vectors.writing import Case, case, place, refused

HOME = place("i1")
MULTI_REGION = "arn:aws:kms:{}:111122223333:key/mrk-00000000000000000000000000000001"
TIMES = DATETIME_PART, datetime.datetime(2026, 3, 29, 0, 59, 59, 123456)  # noqa: DTZ001
UTC = datetime.datetime(999, 1, 2, tzinfo=datetime.UTC)
HALF_A_SECOND = datetime.timezone(datetime.timedelta(microseconds=500_000))
TO_THE_SECOND = datetime.timezone(-datetime.timedelta(hours=1, seconds=1, microseconds=5))

PARTS: tuple[tuple[str, PartKind, object], ...] = (
    ("text", STR_PART, "caf\u00e9:1"),
    ("UUID", UUID_PART, uuid.UUID("12345678-9abc-4def-8123-456789abcdef")),
    ("bytes", BYTES_PART, b"\x00\xe5\x01\xff"),
    ("date", DATE_PART, datetime.date(999, 1, 2)),
    ("date and time", *TIMES),
    ("date and time with a zone", DATETIME_PART, UTC),
)


def clarified() -> Iterator[Case]:
    """What clauses 3, 6 and 7 say more exactly than they did."""
    yield from keys()
    yield from scopes()
    yield from values()
    yield from payloads()


def keys() -> Iterator[Case]:
    """Clauses 3.1 and 3.2."""
    for region in ("eu-central-1", "us-east-1"):
        arn = MULTI_REGION.format(region)
        yield case(f"multi-Region key in {region}", HOME, codecs.STR, "ping", key_arn=arn)
    other = KEY_ARN.replace("eu-central-1", "us-east-1")
    sealed = case("key of another Region", HOME, codecs.STR, "ping")
    yield refused("key of another Region", "ConfigurationError", sealed, key_arn=other)
    for size in (1, 256, 4097, MAX_WRAPPED_BYTES):
        name = f"wrapped data key of {size:,} bytes"
        yield case(name, HOME, codecs.STR, "ping", wrapped=bytes([7]) * size)
    longest = case("longest", HOME, codecs.STR, "ping", wrapped=bytes([7]) * MAX_WRAPPED_BYTES)
    stored = bytes.fromhex(longest["envelope"])
    longer = stored[:52] + struct.pack(">H", MAX_WRAPPED_BYTES + 1) + b"\x07" + stored[54:]
    yield refused(
        "whole envelope with a wrapped data key of 6,145 bytes", "EnvelopeError", longest, longer,
        wrapped=(bytes([7]) * (MAX_WRAPPED_BYTES + 1)).hex(),
    )  # fmt: skip
    assert key_fingerprint(KEY_ARN) != key_fingerprint(other)


def scopes() -> Iterator[Case]:
    """Clauses 4.3 and 7.2, and names of more than a byte of length."""
    for name, kind, value in PARTS:
        part = kind.encode(value).decode().removesuffix(":")
        cell = place("i1", scope=(part,), scope_columns=("tenant",))
        yield case(f"scoped by {name}", cell, codecs.STR, "ping")
    for name, kind, value in PARTS[4:]:
        part = kind.encode(value).decode().removesuffix(":")
        yield case(f"row of {name} part", place(part), codecs.STR, "ping")
    scoped_by_row = place("i1", "s6162", "t20260329T005959.123456Z", scope_is_row=True)
    yield case("scoped to a row of three parts", scoped_by_row, codecs.STR, "ping")
    yield case("long names", place("i1", table="t" * 300, column="c" * 700), codecs.STR, "ping")


def values() -> Iterator[Case]:
    """Values at the edges of clause 6."""
    at = datetime.datetime(2026, 3, 29, 2, 30, tzinfo=HALF_A_SECOND)
    for name, codec, value in (
        ("text that is not normalised", codecs.STR, "e\u0301 \u00e9"),
        ("text that begins with a byte order mark", codecs.STR, "\ufeffping"),
        ("name of an Enum outside of ASCII", codecs.ENUM, "GR\u00dcN"),
        ("float that is not a number", codecs.FLOAT, float("nan")),
        ("int of 2 to the power of 63", codecs.INT, 2**63),
        ("decimal zero with an exponent", codecs.DECIMAL, Decimal("0E-7")),
        ("signalling decimal", codecs.DECIMAL, Decimal("-sNaN123")),
        ("decimal infinity", codecs.DECIMAL, Decimal("-Infinity")),
        ("last day", codecs.DATE, datetime.date.max),
        ("last time", codecs.TIME, datetime.time.max),
        ("time with an offset of half a second", codecs.TIME, at.timetz()),
        ("date and time with an offset of half a second", codecs.DATETIME, at),
        ("date and time with an offset to the microsecond", codecs.DATETIME,
         at.replace(tzinfo=TO_THE_SECOND)),
        ("longest duration", codecs.TIMEDELTA, datetime.timedelta.max),
        ("shortest duration", codecs.TIMEDELTA, datetime.timedelta.min),
        ("JSON with repeated escapes", codecs.JSON, '"\\\u2028\u0000'),
    ):  # fmt: skip
        yield case(name, HOME, codec, value)
    deep: object = "deep"
    for level in range(MAX_DEPTH):
        deep = [deep] if level % 2 else {"a": deep}
    yield case("JSON of 100 levels", HOME, codecs.JSON, deep)
    arrays: object = 0
    for _ in range(MAX_DEPTH):
        arrays = [arrays]
    yield case("JSON of 100 arrays", HOME, codecs.JSON, arrays)
    inside = codecs.pad(b"a\x80\x00b", 16)
    yield case("padding mark inside of padded bytes", HOME, codecs.BYTES, b"a\x80\x00b", pad_to=16,
               payload=inside)  # fmt: skip


def payloads() -> Iterator[Case]:
    """Authentic payloads that are none of their type, or a second spelling."""
    refusals: tuple[tuple[str, Codec, bytes], ...] = (
        ("UUID of 15 bytes", codecs.UUID, bytes(15)),
        ("UUID of 17 bytes", codecs.UUID, bytes(17)),
        ("float of 9 bytes", codecs.FLOAT, bytes(9)),
        ("bool of no bytes", codecs.BOOL, b""),
        ("bool of two bytes", codecs.BOOL, b"\x01\x01"),
        ("int of -1 with a byte too many", codecs.INT, b"\xff\xff"),
        ("text with a surrogate", codecs.STR, b"\xed\xa0\x80"),
        ("text with an overlong NUL", codecs.STR, b"\xc0\x80"),
        ("name with a surrogate", codecs.ENUM, b"\xed\xa0\x80"),
        ("decimal with a small e", codecs.DECIMAL, b"1e+3"),
        ("decimal with an exponent without sign", codecs.DECIMAL, b"1E3"),
        ("decimal with a plus", codecs.DECIMAL, b"+1"),
        ("date that no calendar has", codecs.DATE, b"2023-02-29"),
        ("date of five digits", codecs.DATE, b"10000-01-01"),
        ("time of 24 hours", codecs.TIME, b"24:00:00"),
        ("time with second 60", codecs.TIME, b"23:59:60"),
        ("time without seconds", codecs.TIME, b"01:02"),
        ("time with a fraction of three digits", codecs.TIME, b"01:02:03.004"),
        ("time with a fraction of zeros", codecs.TIME, b"01:02:03.000000"),
        ("time with Z", codecs.TIME, b"01:02:03Z"),
        ("time with a negative offset of zero", codecs.TIME, b"01:02:03-00:00"),
        ("time with seconds of zero in its offset", codecs.TIME, b"01:02:03+01:00:00"),
        ("date and time with Z", codecs.DATETIME, b"2026-03-29T01:02:03Z"),
        ("date and time with a small t", codecs.DATETIME, b"2026-03-29t01:02:03"),
        ("date and time with an offset of a day", codecs.DATETIME, b"2026-03-29T01:02:03+24:00"),
        ("duration of a million microseconds", codecs.TIMEDELTA, struct.pack(">iII", 0, 0, 10**6)),
        ("duration of too many days", codecs.TIMEDELTA, struct.pack(">iII", 10**9, 0, 0)),
        ("duration of 13 bytes", codecs.TIMEDELTA, bytes(13)),
        ("JSON of no bytes", codecs.JSON, b""),
        ("JSON in UTF-16", codecs.JSON, '{"a":1}'.encode("utf-16")),
        ("JSON in UTF-16 without its mark", codecs.JSON, '{"a":1}'.encode("utf-16-be")),
        ("JSON in UTF-32", codecs.JSON, '{"a":1}'.encode("utf-32-le")),
        ("JSON with a byte order mark", codecs.JSON, b'\xef\xbb\xbf{"a":1}'),
        ("JSON with a surrogate", codecs.JSON, b'"\xed\xa0\x80"'),
        ("JSON with a number beyond binary64", codecs.JSON, b"[1e400]"),
        ("JSON with something behind", codecs.JSON, b"[1]]"),
        ("JSON with a comma too many", codecs.JSON, b"[1,]"),
    )
    for name, codec, payload in refusals:
        sealed = case(name, HOME, codec, _ANY[codec.name], payload=payload)
        yield refused(name, "EnvelopeError", sealed)
    name = "padding mark with text behind"
    sealed = case(name, HOME, codecs.STR, "pi", pad_to=16, payload=b"pi\x80ng")
    yield refused(name, "EnvelopeError", sealed)


_ANY = {
    "UUID": uuid.UUID(int=0), "float": 0.0, "bool": True, "int": -1, "str": "", "Enum": "",
    "Decimal": Decimal(0), "date": datetime.date.min, "time": datetime.time.min,
    "datetime": UTC, "timedelta": datetime.timedelta(0), "JSON": None,
}  # fmt: skip
