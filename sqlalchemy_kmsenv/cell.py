"""Where a value lives, and the bytes that bind it there (FORMAT.md, clause 4).

A row is named by *parts*: ASCII text that the database can render as well as
Python can, so that reading costs no second encoding. A part is a letter for its
kind and a text without a colon; each part ends with a colon, so no list of
parts is the beginning of another.
"""

from __future__ import annotations

import datetime
import enum
import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy_kmsenv.envelope import MAGIC, SUITE_AES_256_GCM_HKDF
from sqlalchemy_kmsenv.printable import printable

PART_END = b":"
MAX_NAME_BYTES = 0xFFFF
MAX_PARTS = 0xFF
"""Of the row, and of the scope."""


@dataclass(frozen=True, slots=True)
class PartKind:
    """How one kind of key or scope column is written as a part, and as context text."""

    letter: bytes
    python_type: type
    encode: Callable[[Any], bytes]
    """The part of one value, with its letter and its colon."""
    context_text: Callable[[bytes], str]
    """The pair value for the encryption context, from a part without letter and colon."""

    def encode_many(self, values: Sequence[Any]) -> list[bytes]:
        """One part a value, in order.

        Raises:
            TypeError: a value is not exactly of the kind's Python type; the
                message names the types and no value.
        """
        if set(map(type, values)) - {self.python_type}:
            values = [self._plain(value) for value in values]
        return list(map(self.encode, values))

    def _plain(self, value: Any) -> Any:
        given = type(value)
        if given is self.python_type:
            return value
        # A datetime is a date, a bool an int, and a str-mixed Enum a str, to
        # Python; what a database stores for them is not what their base says.
        exact = self.python_type in (datetime.date, datetime.datetime, int)
        if exact or not isinstance(value, self.python_type) or isinstance(value, enum.Enum):
            wanted = self.python_type.__name__
            raise TypeError(f"expected {wanted}, got {given.__module__}.{given.__qualname__}")
        return value


def _text_to_part(value: str) -> bytes:
    return b"s" + value.encode().hex().encode() + PART_END


def _datetime_to_part(value: datetime.datetime) -> bytes:
    zone = ""
    if value.utcoffset() is not None:
        value, zone = value.astimezone(datetime.UTC), "Z"
    date = f"{value.year:04d}{value.month:02d}{value.day:02d}"
    time = f"{value.hour:02d}{value.minute:02d}{value.second:02d}.{value.microsecond:06d}"
    return f"t{date}T{time}{zone}:".encode()


def _datetime_text(part: bytes) -> str:
    text = part.decode("ascii")
    if len(text.removesuffix("Z")) != _DATETIME_DIGITS:
        raise ValueError("not a date and time")
    date = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
    return f"{date}T{text[9:11]}:{text[11:13]}:{text[13:]}"


_DATETIME_DIGITS = len("YYYYMMDDTHHMMSS.ffffff")

INT_PART = PartKind(b"i", int, lambda value: b"i%d:" % value, bytes.decode)
STR_PART = PartKind(b"s", str, _text_to_part, lambda part: bytes.fromhex(part.decode()).decode())
UUID_PART = PartKind(
    b"u",
    uuid.UUID,
    lambda value: b"u" + value.hex.encode() + PART_END,
    lambda part: str(uuid.UUID(part.decode())),
)
BYTES_PART = PartKind(
    b"b", bytes, lambda value: b"b" + value.hex().encode() + PART_END, bytes.decode
)
DATE_PART = PartKind(
    b"d",
    datetime.date,
    lambda value: b"d" + value.isoformat().encode() + PART_END,
    bytes.decode,
)
DATETIME_PART = PartKind(b"t", datetime.datetime, _datetime_to_part, _datetime_text)

PART_KINDS = (INT_PART, STR_PART, UUID_PART, BYTES_PART, DATE_PART, DATETIME_PART)
_KIND_OF_LETTER = {kind.letter: kind for kind in PART_KINDS}


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of one row, by its logical names; ``row`` and ``scope`` hold parts.

    ``row`` is empty for a column that is not bound to rows, ``scope`` for one
    whose data keys serve the whole column.
    """

    table: str
    column: str
    row: tuple[bytes, ...] = ()
    scope: tuple[bytes, ...] = ()

    def associated_data(self, value_type: int) -> bytes:
        """The associated data of a value of this type in this cell.

        Raises:
            ValueError: a logical name is longer than 65,535 bytes.
        """
        prefix = associated_prefix(
            self.table, self.column, len(self.row), len(self.scope), value_type
        )
        return prefix + b"".join(part + PART_END for part in self.row + self.scope)

    def __str__(self) -> str:
        where = f"{self.table}.{self.column}"
        if not self.row:
            return where
        return f"{where}, row ({', '.join(map(readable_part, self.row))})"


def associated_prefix(
    table: str, column: str, row_parts: int, scope_parts: int, value_type: int
) -> bytes:
    """What the associated data of every value of one type in one column begins with."""
    # Lengths, not separators: ("a.b", "c") must differ from ("a", "b.c").
    names = b"".join(_with_length(name) for name in (table, column))
    fixed = bytes((SUITE_AES_256_GCM_HKDF, value_type, row_parts, scope_parts))
    return MAGIC + fixed + names


def split_section(section: bytes) -> tuple[bytes, ...]:
    """The parts of a section, without their colons."""
    return tuple(section.split(PART_END)[:-1])


def join_parts(columns: Iterable[Sequence[bytes]]) -> list[bytes]:
    """One section a row, from one sequence of encoded parts a column."""
    lists = list(columns)
    if len(lists) == 1:
        return list(lists[0])
    return list(map(b"".join, zip(*lists, strict=True)))


def context_text(part: bytes) -> str:
    """The text of a part in an encryption context.

    Raises:
        ValueError: not a part that this library writes.
    """
    kind = _KIND_OF_LETTER.get(part[:1])
    if kind is None:
        raise ValueError("unknown kind of part")
    return kind.context_text(part[1:])


def readable_part(part: bytes) -> str:
    """A part as a person reads it; never fails, since it serves error messages."""
    try:
        return printable(context_text(part))
    except ValueError:
        return "unreadable"


def _with_length(name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > MAX_NAME_BYTES:
        raise ValueError(f"a logical name takes at most {MAX_NAME_BYTES} bytes")
    return struct.pack(">H", len(encoded)) + encoded
