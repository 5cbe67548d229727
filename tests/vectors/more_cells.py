"""Envelopes, cells and contexts at the edges of clauses 1 to 5 and 7 to 9, and packed cells."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from sqlalchemy_kmsenv.codecs import BYTES, STR
from tests.vectors.opening import KEY_ARN, KEYRING_CONTEXT
from tests.vectors.writing import DATA_KEYS, WRAPPED, Case, place, refused, sealed

HOME = place("i1")
SEALED_HERE = "arn:aws:kms:eu-central-1:111122223333:key/6e3f6c5e-0000-4000-8000-000000000002"
REPLICA = "arn:aws:kms:{}:111122223333:key/mrk-00000000000000000000000000000001"
VALUE_TYPE_AT = 54 + len(WRAPPED[0])
E, W, C = "EnvelopeError", "WrongCellError", "ConfigurationError"


def more_cells() -> Iterator[Case]:
    """What opens, and what is refused, by clause."""
    yield from envelopes()
    yield from two_things_wrong()
    yield from keys()
    yield from cells()
    yield from scopes()
    yield from elsewhere()
    yield from packed()


def ping(name: str, cell: Case = HOME, **more: Any) -> Case:
    """The text that most cases hold."""
    return sealed(name, "str", STR.value_type, b"ping", "ping", cell=cell, **more)


def altered(name: str, outcome: str, *changes: tuple[int, bytes | None], **more: Any) -> Case:
    """The envelope with other bytes at an index, or the lowest bit there flipped."""
    old = ping(name, **more)
    stored = bytearray.fromhex(old["envelope"])
    for at, to in changes:
        new = bytes([stored[at] ^ 1]) if to is None else to
        stored[at : len(stored) if at == -1 else at + len(new)] = new
    return refused(name, outcome, old, bytes(stored))


def text(value: str) -> str:
    """A part of text."""
    return "s" + value.encode().hex()


def scoped(*parts: str, names: tuple[str, ...] = ("tenant", "b", "c")) -> Case:
    """A cell with scope columns."""
    return place("i1", scope=parts, scope_columns=names[: len(parts)])


def envelopes() -> Iterator[Case]:
    """Clauses 2, 3.1 and 9.1."""
    yield altered("suite 81", E, (2, b"\x81"))
    yield altered("kind of key reference 80", E, (3, b"\x80"))
    yield altered("value type 7f", E, (VALUE_TYPE_AT, b"\x7f"))
    name = "whole envelope with a wrapped data key of 0 bytes"
    yield refused(name, E, ping(name, wrapped=b""))
    name = "wrapped data key of 1 byte and a payload of no bytes (84 bytes)"
    yield sealed(name, "bytes", BYTES.value_type, b"", "", cell=HOME, wrapped=b"w")
    name = "payload of no bytes with another tag"
    old = sealed(name, "bytes", BYTES.value_type, b"", "", cell=HOME)
    stored = bytes.fromhex(old["envelope"])
    yield refused(name, W, old, stored[:-1] + bytes([stored[-1] ^ 1]))


def two_things_wrong() -> Iterator[Case]:
    """The order of clause 9."""
    flip = (4, None)
    yield altered("suite 2 and an unknown fingerprint", E, flip, (2, b"\x02"))
    yield altered("type 0e and an unknown fingerprint", E, flip, (VALUE_TYPE_AT, b"\x0e"))
    name = "an unknown fingerprint and a context that the KMS refuses"
    yield altered(name, C, flip) | {"context": {}}
    name = "an unknown fingerprint, another commitment and tag"
    yield altered(name, C, flip, (30, bytes(3)), (-1, None))
    name = "cut before the nonce, and an unknown fingerprint"
    old = altered(name, E, flip)
    yield old | {"envelope": old["envelope"][: 2 * VALUE_TYPE_AT + 2]}


def keys() -> Iterator[Case]:
    """Clauses 1.4, 3.2, 5.3 and 9.2."""
    yield altered("last byte of the fingerprint altered", C, (11, None))
    yield altered("fingerprint of zeros", C, (4, bytes(8)))
    yield altered("middle of the commitment altered", W, (36, None))
    yield altered("commitment of zeros", W, (20, bytes(32)))
    name = "commitment that begins with 00, altered behind it"
    yield altered(name, W, (40, None), data_key=_key_with_a_zero())
    for name, arn in (
        ("multi-Region key of another partition, Region with more words, another account",
         "arn:aws-us-gov:kms:us-gov-west-1:444455556666:key/mrk-0000000000000000000000000000000a"),
        ("ARN with capitals", KEY_ARN.replace("6e3f6c5e", "6E3F6C5E")),
        ("ARN with mrk- inside of the key id",
         REPLICA.format("eu-central-1").replace("mrk", "1-mrk")),
        ("ARN whose key id begins with mrk, no hyphen",
         REPLICA.format("eu-central-1").replace("mrk-", "mrk")),
    ):  # fmt: skip
        yield ping(name, key_arn=arn)
    for size in (16, 33):
        name = f"data key of {size} bytes"
        yield refused(name, "KeyServiceError", ping(name, data_key=bytes(range(size))))
    both = [KEY_ARN, SEALED_HERE]
    yield ping("KMS key that is the second of two", key_arn=SEALED_HERE) | {"key_arns": both}
    yield ping("KMS key that is the first of two") | {"key_arns": both}
    name = "KMS key of the fingerprint does not unwrap, another one would"
    old = ping(name, key_arn=SEALED_HERE)
    yield refused(name, W, old, key_arn=KEY_ARN, key_arns=both)
    name = "KMS key of the fingerprint is missing, another one would unwrap"
    yield refused(name, C, old, key_arn=KEY_ARN, key_arns=both[:1])
    regions = [REPLICA.format(region) for region in ("us-east-1", "eu-central-1")]
    yield ping("KMS key that is one of two replicas", key_arn=regions[1]) | {"key_arns": regions}


def _key_with_a_zero() -> bytes:
    info = b"sqlalchemy-kmsenv format 1 suite 1 commitment\x01"
    made = (number.to_bytes(32, "big") for number in count())
    return next(key for key in made if hmac.new(key, info, hashlib.sha256).digest()[0] == 0)


def cells() -> Iterator[Case]:
    """Clause 4."""
    odd = place("i1", table='" Pe\u0301ngs\0 "', column=" Po\u0301s\U0001f6f0 ")
    name = "names that are not normalised, with capitals, blanks, quotes, a NUL, beyond the BMP"
    yield ping(name, odd)
    for name, part in (
        ("of text that is not normalised, with capitals, a blank, NUL, beyond the BMP",
         text("E\u0301\0\U0001f6f0 ")),
        ("of text that ends with a blank", text("E ")),
        ("of text that is not normalised", text("e\u0301")),
        ("of text of 300 bytes", text("a" * 300)),
        ("i18446744073709551616", "i18446744073709551616"),
        ("i9007199254740993", "i9007199254740993"),
        ("i-9223372036854775808", "i-9223372036854775808"),
        ("of the UUID of zeros", "u" + "0" * 32),
        ("of no bytes", "b"),
        ("of bytes with 00 inside and at the end", "b6100006200"),
        ("of date and time with .120000", "t20260329T005959.120000Z"),
        ("of another form", "i007"),
    ):  # fmt: skip
        yield ping(f"row part {name}", place(part))
    yield ping("two equal row parts", place("i1", "i1"))
    yield ping("row of 255 parts", place(*(f"i{number}" for number in range(255))))
    both = place("i1", "i2", scope=("i2", "i1"), scope_columns=("tenant", "b"))
    yield ping("two row parts and two scope parts, one in both", both)


def scopes() -> Iterator[Case]:
    """Clause 7."""
    name = "scope columns not in the order of their names or parts"
    yield ping(name, scoped("s6575", "i7", "i7", names=("z", "b", "a")))
    bare = place(scope=("i7", "i8"), scope_columns=("tenant", "b"))
    yield ping("two scope columns, bound to its column only", bare)
    for name, part in (
        ("text that is not normalised, with capitals, blanks", text(" E\u0301 ")),
        ("text beyond the BMP, with NUL", text("a\0\U0001f6f0")),
        ("empty text", "s"),
        ("no bytes", "b"),
        ("i-7", "i-7"),
        ("i0", "i0"),
        ("i9007199254740993", "i9007199254740993"),
        ("date and time without zone and fraction", "t20260329T005959.000000"),
        ("date and time with zone, .123400", "t20260329T005959.123400Z"),
    ):
        yield ping(f"scoped by {name}", scoped(part))
    name = "scope columns with capitals, blanks, points, outside of ASCII, not normalised"
    yield ping(name, scoped("i1", "i2", names=("Mandant Nr.", "e\u0301")))
    names = "aws_account", "kmsenv_row"
    yield ping("scope columns aws_account and kmsenv_row", scoped("i1", "i2", names=names))
    yield ping("scope column a:b", scoped("i1", names=("a:b",)))
    yield ping(
        "scoped to a row of one part, a UUID",
        place("u123456789abc4def8123456789abcdef", scope_is_row=True),
    )
    yield ping(
        "scoped to a row of parts that are not in order", place("s6162", "i1", scope_is_row=True)
    )
    for name, column, part in (
        ("scope column kmsenv:row", "kmsenv:row", "i1"),
        ("scope column AWS:x", "AWS:x", "i1"),
        ("scope column of a name that the keyring gives", "app", text("vectors")),
        ("scope column App beside the keyring's app", "App", "i1"),
    ):
        yield refused(name, C, ping(name, scoped(part, names=(column,))))


def elsewhere() -> Iterator[Case]:
    """Clause 9.5: what a reader may be tempted to try instead."""

    def under(name: str, change: Callable[[Case], Case], cell: Case = HOME) -> Case:
        old = ping(name, cell)
        return refused(name, W, old, context=change(dict(old["context"])))

    def without(*names: str) -> Callable[[Case], Case]:
        return lambda pairs: {name: pairs[name] for name in pairs if name not in names}

    own = place("i1", scope_is_row=True)
    tenant = scoped("i7")
    yield under("wrapped without the keyring's pairs", without("app"))
    yield under("wrapped without the scope's pair", without("tenant"), tenant)
    yield under("wrapped without kmsenv:row", without("kmsenv:row"), own)
    name = "wrapped with kmsenv:row, found where rows have no data keys of their own"
    yield under(name, lambda pairs: pairs | {"kmsenv:row": "i1"})
    yield under("wrapped without kmsenv:column", without("kmsenv:column"))
    yield under("wrapped under no context", lambda _: {})
    yield under("wrapped under one more pair", lambda pairs: pairs | {"more": "1"})
    app = KEYRING_CONTEXT["app"]
    yield under("wrapped under App, not app", lambda pairs: without("app")(pairs) | {"App": app})
    two = place("i1", "i2")
    for name, cell, other in (
        ("sealed without row parts, found in a row", HOME, place()),
        ("sealed without the scope part, wrapped with it", tenant, HOME),
        ("sealed with the scope part as a row part", tenant, place("i1", "i7")),
        ("sealed for the first of two row parts", two, HOME),
    ):
        yield refused(name, W, ping(name, cell, sealed_in=other))
    name = "sealed without associated data"
    yield refused(name, W, ping(name, associated=b""))
    name = "sealed as bytes, marked as text"
    yield refused(name, W, ping(name, sealed_as=BYTES.value_type))


def packed() -> Iterator[Case]:
    """Clause 8."""
    cell = place("i1", "be501", scope=("i7",), scope_columns=("tenant",))
    own = b"i1:be501:i7:"

    def of(name: str, section: bytes, outcome: str = E, cell: Case = cell, **more: Any) -> Case:
        old = ping(name, cell, **more)
        given = {"packed": section.hex() + old["envelope"]}
        return (old if outcome == "opens" else refused(name, outcome, old)) | given

    yield of("packed: two row parts and a scope part", own, "opens")
    yield of("packed: no parts", b"", "opens", place())
    yield of("packed: a part is NULL", own) | {"packed": ""}
    yield of("packed: a part too few", b"i1:be501:")
    yield of("packed: a part too many", own + b"i7:")
    yield of("packed: a part too many, none wanted", b"i1:", cell=place())
    yield of("packed: no colon behind the last part", own[:-1])
    yield of("packed: text behind the last colon", own + b"i8")
    yield of("packed: parts and nothing behind", own) | {"packed": own.hex()}
    yield of("packed: parts and plaintext", own) | {"packed": (own + b"plaintext: from").hex()}
    behind = "packed: an envelope in another's place"
    other = ping(behind, cell, data_key=DATA_KEYS[1])["envelope"]
    yield of(behind, own, W) | {"packed": own.hex() + other}
    yield of("packed: two envelopes", own, W) | {
        "packed": own.hex() + 2 * ping("packed: two envelopes", cell)["envelope"]
    }
    for name, part in (("not UTF-8", "sff"), ("no hexadecimal", "sxy"), ("of no kind", "x1")):
        yield refused(f"scope part that is {name}", W, of_part(part))


def of_part(part: str) -> Case:
    """A cell whose scope part no writer makes, sealed for it."""
    old = ping("scope part of another form", scoped("i7"), sealed_in=scoped(part))
    return old | {"cell": scoped(part)}
