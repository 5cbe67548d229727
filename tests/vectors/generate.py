"""Write the vectors of format 1, or compare them: ``python -m tests.vectors.generate [--check]``.

Deterministic. Once released, cases are only ever added, at the end (FORMAT.md, clause 10).
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    INT_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.codecs import Codec
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, serialize_header
from tests.vectors.clarified import clarified
from tests.vectors.more_cells import more_cells
from tests.vectors.more_values import more_values
from tests.vectors.opening import KEY_ARN, KEYRING_CONTEXT, VECTORS, context_of
from tests.vectors.writing import DATA_KEYS, HINTS, WRAPPED, Case, case, place, refused

SUITE_AT, REFERENCE_AT, FINGERPRINT_AT, HINT_AT, COMMITMENT_AT = 2, 3, 4, 12, 20
LENGTH_AT, WRAPPED_AT = 52, 54
VALUE_TYPE_AT = WRAPPED_AT + len(WRAPPED[0])
NONCE_AT = VALUE_TYPE_AT + 1
CIPHERTEXT_AT = NONCE_AT + 12

UTC = datetime.UTC
IST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
KEY = uuid.UUID("12345678-9abc-4def-8123-456789abcdef")

VALUES: tuple[tuple[Codec, tuple[Any, ...]], ...] = (
    (codecs.BYTES, (b"", b"\x00\xff", b"ends like padding \x80\x00\x00")),
    (codecs.STR, ("", "ping", "N 52.52\u00b0, \U0001f6f0", "a\x00b")),
    (codecs.INT, (0, 1, -1, 127, 128, -128, -129, 2**64)),
    (codecs.FLOAT, (0.0, -0.0, 52.52, float("inf"))),
    (codecs.DECIMAL, (Decimal("0"), Decimal("-1.50"), Decimal("1E+3"), Decimal("NaN"))),
    (codecs.BOOL, (True, False)),
    (codecs.DATE, (datetime.date(2024, 2, 29), datetime.date.min)),
    (codecs.TIME, (datetime.time(23, 59), datetime.time(1, 2, 3, 4, tzinfo=IST))),
    (
        codecs.DATETIME,
        (
            datetime.datetime(2024, 2, 29, 12, 0),  # noqa: DTZ001  naive values are values too
            datetime.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
        ),
    ),
    (codecs.TIMEDELTA, (datetime.timedelta(0), datetime.timedelta(microseconds=-1))),
    (codecs.UUID, (KEY,)),
    (codecs.JSON, (None, [], {"a": [1, 2.5, None, True], "b": "\u00e9"}, "text")),
    (codecs.ENUM, ("ACTIVE",)),
)

PARTS: tuple[tuple[str, PartKind, Any], ...] = (
    ("int", INT_PART, -42),
    ("str", STR_PART, "caf\u00e9:1"),
    ("empty str", STR_PART, ""),
    ("uuid", UUID_PART, KEY),
    ("bytes", BYTES_PART, b"\x00\xe5\x01"),
    ("date", DATE_PART, datetime.date(999, 1, 2)),
)


HOME = place("i1")
TENANT = place("i1", scope=("i7",), scope_columns=("tenant_id",))
COMPOSITE = place("i1", "i2", table="tracks.points")


def positive() -> Iterator[Case]:
    """Every value type, plain and padded, and every way to be bound."""
    for codec, values in VALUES:
        for index, value in enumerate(values):
            yield case(f"{codec.name} {index}", HOME, codec, value)
    for codec, values in VALUES:
        yield case(f"{codec.name} padded", HOME, codec, values[-1], pad_to=16)
    yield case("padded to exactly one block", HOME, codecs.STR, "123456789012345", pad_to=16)
    yield case("padded by a whole block", HOME, codecs.STR, "1234567890123456", pad_to=16)
    for name, kind, key in PARTS:
        part = kind.encode(key).decode().removesuffix(":")
        yield case(f"row of {name} part", place(part), codecs.STR, "ping")
    names = place("i1", table="\u00f6ffentlich.pings", column="pos:ition")
    for name, cell in (
        ("bound to its column only", place()),
        ("composite row", COMPOSITE),
        ("scoped to a tenant", TENANT),
        ("scoped to two columns", place("i1", scope=("i7", "s6575"), scope_columns=("a", "b"))),
        ("scoped to its row", place("i1", "s6162", scope_is_row=True)),
        ("scoped, bound to its column only", place(scope=("i7",), scope_columns=("tenant_id",))),
        ("names outside of ASCII", names),
    ):
        yield case(name, cell, codecs.STR, "ping")
    yield case("another data key", HOME, codecs.STR, "ping", key=1)
    yield rewrapped()
    yield changed("material hint altered, which nothing authenticates", HINT_AT, outcome="opens")


def rewrapped() -> Case:
    """The same nonce and ciphertext behind a data key that was wrapped anew."""
    old = base()
    stored = bytes.fromhex(old["envelope"])
    reference = InlineReference(
        key_fingerprint(KEY_ARN), HINTS[1], ValueCipher(DATA_KEYS[0]).commitment, b"wrapped anew"
    )
    header = serialize_header(reference, codecs.STR.value_type)
    return old | {
        "name": "data key wrapped anew",
        "wrapped": reference.wrapped.hex(),
        "envelope": (header + stored[NONCE_AT:]).hex(),
    }


def base() -> Case:
    """The envelope that the altered ones are made of."""
    return case("base", HOME, codecs.STR, "ping")


def changed(name: str, at: int, *, to: bytes | None = None, outcome: str) -> Case:
    """The base with the lowest bit at an index flipped, or with other bytes there."""
    old = base()
    stored = bytearray.fromhex(old["envelope"])
    if to is None:
        stored[at] ^= 1
    else:
        stored[at : at + len(to)] = to
    if outcome == "opens":
        return old | {"name": name, "envelope": stored.hex()}
    return refused(name, outcome, old, bytes(stored))


def negative() -> Iterator[Case]:
    """Everything that a reader has to refuse."""
    yield from lengths()
    for field, at, outcome in (
        ("mark", 0, "EnvelopeError"),
        ("version", 1, "EnvelopeError"),
        ("suite", SUITE_AT, "EnvelopeError"),
        ("reference kind", REFERENCE_AT, "EnvelopeError"),
        ("fingerprint", FINGERPRINT_AT, "ConfigurationError"),
        ("commitment", COMMITMENT_AT, "WrongCellError"),
        ("commitment end", LENGTH_AT - 1, "WrongCellError"),
        ("wrapped length", LENGTH_AT + 1, "EnvelopeError"),
        ("wrapped data key", WRAPPED_AT, "WrongCellError"),
        ("value type", VALUE_TYPE_AT, "WrongCellError"),
        ("nonce", NONCE_AT, "WrongCellError"),
        ("ciphertext", CIPHERTEXT_AT, "WrongCellError"),
        ("tag", CIPHERTEXT_AT + len("ping"), "WrongCellError"),
        ("tag end", -1, "WrongCellError"),
    ):
        yield changed(f"bit flipped: {field}", at, outcome=outcome)
    for name, at, to in (
        ("format version 2", 1, b"\x02"),
        ("suite 0", SUITE_AT, b"\x00"),
        ("suite 2", SUITE_AT, b"\x02"),
        ("reserved reference: key table", REFERENCE_AT, b"\x01"),
        ("reserved reference: direct", REFERENCE_AT, b"\x02"),
        ("unknown reference", REFERENCE_AT, b"\x03"),
        ("value type 0", VALUE_TYPE_AT, b"\x00"),
        ("value type 0, padded", VALUE_TYPE_AT, b"\x80"),
        ("unknown value type", VALUE_TYPE_AT, b"\x0e"),
        ("unknown value type, padded", VALUE_TYPE_AT, b"\x8e"),
        ("wrapped data key of no bytes", LENGTH_AT, b"\x00\x00"),
        ("wrapped data key of 6,145 bytes", LENGTH_AT, b"\x18\x01"),
        ("wrapped data key longer than the envelope", LENGTH_AT, b"\x18\x00"),
    ):
        yield changed(name, at, to=to, outcome="EnvelopeError")
    to = bytes((codecs.STR.value_type | codecs.PADDED,))
    yield changed("marked as padded", VALUE_TYPE_AT, to=to, outcome="WrongCellError")
    other = ValueCipher(DATA_KEYS[1]).commitment
    name = "another data key's commitment"
    yield changed(name, COMMITMENT_AT, to=other, outcome="WrongCellError")
    yield from payloads()
    yield from moved()
    yield from second_spellings()


def lengths() -> Iterator[Case]:
    """Cut off, or with something behind."""
    stored = bytes.fromhex(base()["envelope"])
    for name, size in (
        ("empty", 0),
        ("mark only", 1),
        ("cut inside the reference", HINT_AT),
        ("cut inside the wrapped data key", WRAPPED_AT + 1),
        ("cut before the nonce", NONCE_AT),
        ("shorter than nonce and tag", NONCE_AT + 27),
    ):
        yield refused(name, "EnvelopeError", base(), stored[:size])
    for name, envelope in (
        ("one byte of ciphertext missing", stored[:CIPHERTEXT_AT] + stored[CIPHERTEXT_AT + 1 :]),
        ("last byte missing", stored[:-1]),
        ("a byte behind the tag", stored + b"\x00"),
    ):
        yield refused(name, "WrongCellError", base(), envelope)
    outcome = "EnvelopeError"
    yield refused("plaintext", outcome, base(), "Plaintext from before. \u00e5\u0101".encode() * 9)
    yield refused("a byte before the mark", outcome, base(), b"\x00" + stored)


def payloads() -> Iterator[Case]:
    """Authentic values whose payload is not one of their type."""
    for name, codec, pad_to, payload in (
        ("bool of 2", codecs.BOOL, None, b"\x02"),
        ("float of 7 bytes", codecs.FLOAT, None, bytes(7)),
        ("str that is not UTF-8", codecs.STR, None, b"\xff"),
        ("padding without its mark", codecs.STR, 16, bytes(16)),
        ("padding of nothing", codecs.STR, 16, b""),
        ("padding behind text", codecs.STR, 16, b"ping\x00\x00"),
    ):
        sealed = case(name, HOME, codec, codec.decode(_ANY[codec]), pad_to=pad_to, payload=payload)
        yield refused(name, "EnvelopeError", sealed)


def second_spellings() -> Iterator[Case]:
    """Authentic values that are written in another way than the format says."""
    for name, codec, good, payload in (
        ("int of no bytes", codecs.INT, b"\x00", b""),
        ("int with a byte too many", codecs.INT, b"\x01", b"\x00\x00\x01"),
        ("decimal with blanks", codecs.DECIMAL, b"1.0", b" 1.0 "),
        ("decimal with an underscore", codecs.DECIMAL, b"10", b"1_0"),
        ("date without hyphens", codecs.DATE, b"2026-11-24", b"20261124"),
        ("date of a week", codecs.DATE, b"2026-11-24", b"2026-W48-2"),
        ("time of hours alone", codecs.TIME, b"03:00:00", b"03"),
        ("date and time with a blank", codecs.DATETIME, b"2026-11-24T03:00:00",
         b"2026-11-24 03:00:00"),
        ("duration of more seconds than a day has", codecs.TIMEDELTA, bytes(12),
         bytes(4) + (86_400).to_bytes(4, "big") + bytes(4)),
        ("JSON with NaN", codecs.JSON, b"[1]", b"[NaN]"),
        ("JSON with an infinity", codecs.JSON, b"[1]", b"[-Infinity]"),
    ):  # fmt: skip
        sealed = case(name, HOME, codec, codec.decode(good), pad_to=None, payload=payload)
        yield refused(name, "EnvelopeError", sealed)


_ANY = {codecs.BOOL: b"\x01", codecs.FLOAT: bytes(8), codecs.STR: b"ping"}


def moved() -> Iterator[Case]:
    """Authentic values found elsewhere; the contexts are those that they were wrapped under."""
    scoped = case("scoped", TENANT, codecs.STR, "ping")
    composite = case("composite", COMPOSITE, codecs.STR, "ping")
    by_row = case("by row", place("i1", scope_is_row=True), codecs.STR, "ping")
    points = COMPOSITE["table"]
    for name, old, cell in (
        ("other row", base(), place("i2")),
        ("other kind of part", base(), place("s31")),
        ("no row", base(), place()),
        ("other column", base(), place("i1", column="note")),
        ("other table", base(), place("i1", table="tracks")),
        ("other scope", scoped, TENANT | {"scope": ["i8"]}),
        ("scope left out", scoped, HOME),
        ("parts in other order", composite, place("i2", "i1", table=points)),
        ("other row of its own data key", by_row, place("i2", scope_is_row=True)),
    ):
        yield refused(name, "WrongCellError", old, cell=cell)
        context = KEYRING_CONTEXT | context_of(cell)
        unwrapping = f"{name}, with a KMS that unwraps"
        yield refused(unwrapping, "WrongCellError", old, cell=cell, context=context)
    foreign = {"app": "another"} | context_of(HOME)
    yield refused("other pairs of the keyring", "WrongCellError", base(), context=foreign)
    key = DATA_KEYS[1].hex()
    yield refused("other data key behind the blob", "WrongCellError", base(), data_key=key)


def document() -> str:
    """The content of the file of vectors."""
    makers = (positive, negative, clarified, more_values, more_cells)
    cases = [case for maker in makers for case in maker()]
    head = {"format": 1, "key_arn": KEY_ARN, "keyring_context": KEYRING_CONTEXT, "cases": cases}
    return json.dumps(head, indent=1, ensure_ascii=True) + "\n"


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors.generate")
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    if not parser.parse_args().check:
        VECTORS.write_text(document(), encoding="ascii")
        return 0
    if VECTORS.is_file() and VECTORS.read_text(encoding="ascii") == document():
        return 0
    sys.stderr.write(f"{VECTORS.name} is not what the code writes\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
