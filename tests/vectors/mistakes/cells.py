"""Mistakes of clause 4: names, parts, associated data."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tests.vectors.mistakes.planting import Methods, Mistakes, Wrong, asserted, mapped, nfc, right
from tests.vectors.reader import Header, Reader


def _sized(size_of: Wrong) -> Methods:
    """Another length before a name."""
    return {"name": lambda _, text: size_of(text).to_bytes(2, "big") + text.encode()}


def _units(text: str) -> int:
    """UTF-8, but a character beyond the BMP as one unit more than UTF-16 has."""
    return len(text.encode()) - 2 * sum(ord(each) > 0xFFFF for each in text)


def _cut(size: int) -> Methods:
    """Names cut as a database does."""
    return mapped("name", lambda text: text.encode()[:size].decode("utf-8", "ignore"))


def _parts(function: Wrong) -> Methods:
    """Another text of each row part."""
    return {"row_parts": lambda _, cell: [function(part) for part in cell["row"]]}


def _of_kind(kind: str, function: Wrong) -> Methods:
    """Another text of the row parts of one kind."""
    return _parts(lambda part: kind + function(part[1:]) if part[:1] == kind else part)


def _text(function: Wrong) -> Methods:
    """Another text of text."""
    return _of_kind("s", lambda text: function(bytes.fromhex(text).decode()).encode().hex())


def _wrapped(bits: int) -> Wrong:
    half = 1 << bits - 1
    return lambda text: str((int(text) + half) % (2 * half) - half)


def _rows(function: Wrong) -> Methods:
    """Other row parts."""
    return {"row_parts": lambda _, cell: function(cell["row"])}


def _scopes(function: Wrong) -> Methods:
    """Other scope parts."""
    return {
        "scope_parts": lambda _, cell: [] if cell["scope_is_row"] else function(cell["scope"], cell)
    }


def _bound(change: Wrong) -> Methods:
    """Other associated data."""

    def associated_data(self: Reader, header: Header, cell: Any) -> Any:
        bound = bytearray(right("associated_data")(self, header, cell))
        return bytes(change(bound) or bound)

    return {"associated_data": associated_data}


def _counts(change: Wrong) -> Methods:
    """Other numbers of parts."""

    def changed(bound: bytearray) -> None:
        bound[4:6] = bytes(change(*bound[4:6]))

    return _bound(changed)


def _scope_before_row(self: Reader, header: Header, cell: Any) -> bytes:
    rows, scopes = self.row_parts(cell), self.scope_parts(cell)
    bound: bytes = right("associated_data")(self, header, cell)
    return bound.removesuffix(self.section([*rows, *scopes])) + self.section([*scopes, *rows])


def _one_colon_less(self: Reader, parts: list[str]) -> bytes:
    section: bytes = right("section")(self, parts)
    return section.replace(b":", b"", 1) if len(parts) > 1 else section


MISTAKES: Mistakes = {
    "1.2 names in NFC in the associated data": mapped("name", nfc),
    "1.2 names in NFD in the associated data": mapped(
        "name", lambda text: unicodedata.normalize("NFD", text)
    ),
    "4.1 names in small letters in the associated data": mapped("name", str.lower),
    "4.1 names: blanks at their ends dropped": mapped("name", str.strip),
    "4.1 names: characters, not bytes, counted": _sized(len),
    "4.1 names: UTF-16 units counted beyond the BMP": _sized(_units),
    "4.1 names: length in one byte": _sized(lambda text: len(text.encode()) % 256),
    "4.1 names: characters beyond the BMP replaced": mapped(
        "name", lambda text: re.sub("[\U00010000-\U0010ffff]", "?", text)
    ),
    "4.1 names: cut to 63 bytes": _cut(63),
    "4.1 names: schema dropped": mapped("name", lambda text: text.split(".")[-1]),
    "4.1 names: NUL ends them": mapped("name", lambda text: text.split("\0")[0]),
    "4.6 row part of text in NFC": _text(nfc),
    "4.6 row part of text in small letters": _text(str.lower),
    "4.6 row part of text: blanks at the end dropped": _text(str.rstrip),
    "4.3 row part of text: NUL ends it": _text(lambda text: text.split("\0")[0]),
    "4.3 row part of text: beyond the BMP replaced": _text(
        lambda text: re.sub("[\U00010000-\U0010ffff]", "?", text)
    ),
    "4.3 row part of an integer: beyond 64 bits wrapped": _of_kind("i", _wrapped(64)),
    "4.3 row part of an integer: beyond 32 bits wrapped": _of_kind("i", _wrapped(32)),
    "4.3 row part of an integer: by way of binary64": _of_kind(
        "i", lambda text: str(int(float(text)))
    ),
    "4.6 row part of an integer: zeros before dropped": _of_kind(
        "i", lambda text: text.lstrip("0") or "0"
    ),
    "4.3 row part of bytes: none refused": _of_kind("b", lambda text: asserted(text, text)),
    "4.3 row part of bytes: ends at 00": _of_kind("b", lambda text: text.split("0000")[0]),
    "4.3 row part of bytes: 00 at the end dropped": _of_kind(
        "b", lambda text: bytes.fromhex(text).rstrip(b"\0").hex()
    ),
    "4.3 row part of a UUID with hyphens": _of_kind(
        "u", lambda text: re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", text)
    ),
    "4.3 row part of a date without hyphens": _of_kind("d", lambda text: text.replace("-", "")),
    "4.7 parts: cut to 255 bytes": _parts(lambda part: part[:255]),
    "4.7 parts: of more than 255 bytes refused": _parts(
        lambda part: asserted(part, len(part) < 256)
    ),
    "4.3 row part of a date and time: zeros at the end of the fraction left out": _of_kind(
        "t", lambda text: re.sub(r"(\.\d*[1-9])0+(?=Z?$)", r"\1", text)
    ),
    "4.3 row part of a date and time: fraction of zeros left out": _of_kind(
        "t", lambda text: text.replace(".000000", "")
    ),
    "4.3 row part of a date and time: years with fewer digits": _of_kind(
        "t", lambda text: text.lstrip("0")
    ),
    "4.3 row part of a date and time: Z left out": _of_kind("t", lambda text: text.rstrip("Z")),
    "4.4 row parts sorted": _rows(sorted),
    "4.4 row parts backwards": _rows(lambda row: row[::-1]),
    "4.4 equal row parts taken once": _rows(lambda row: list(dict.fromkeys(row))),
    "4.4 scope parts sorted": _scopes(lambda scope, _: sorted(scope)),
    "4.4 scope parts in the order of the columns' names": _scopes(
        lambda scope, cell: [
            part for _, part in sorted(zip(cell["scope_columns"], scope, strict=True))
        ]
    ),
    "4.4 scope parts backwards": _scopes(lambda scope, _: scope[::-1]),
    "4.4 scope parts that are row parts too left out": _scopes(
        lambda scope, cell: [part for part in scope if part not in cell["row"]]
    ),
    "4.4 equal scope parts taken once": _scopes(lambda scope, _: list(dict.fromkeys(scope))),
    "4.4 only the first scope part": _scopes(lambda scope, _: scope[:1]),
    "4.1 counts in seven bits": _counts(lambda rows, scopes: (min(rows, 127), min(scopes, 127))),
    "4.1 number of scope parts not counted": _counts(lambda rows, _: (rows, 0)),
    "4.1 counts the other way round": _counts(lambda rows, scopes: (scopes, rows)),
    "4.1 value type without its padding bit": _bound(
        lambda bound: bound[:3] + bytes([bound[3] & 0x7F]) + bound[4:]
    ),
    "4.1 no colon behind the last part": _bound(lambda bound: bound.removesuffix(b":")),
    "4.1 no colon behind the first of several parts": {"section": _one_colon_less},
    "4.1 scope parts before row parts": {"associated_data": _scope_before_row},
    "4.1 version left out": _bound(lambda bound: bound[:1] + bound[2:]),
}
