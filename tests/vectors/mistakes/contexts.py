"""Mistakes of clause 7: encryption contexts."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from typing import Any

from tests.vectors.mistakes.planting import Methods, Mistakes, Wrong, after, nfc, right
from tests.vectors.reader import Reader
from tests.vectors.values import require


def _value(kind: str, function: Wrong) -> Methods:
    """Another text of a scope column of one kind."""

    def scope_value(self: Reader, letter: str, text: str) -> Any:
        own = right("scope_value")(self, letter, text)
        return function(own) if letter == kind else own

    return {"scope_value": scope_value}


def _part(kind: str, function: Wrong) -> Methods:
    """A scope column of one kind, written by its part."""

    def scope_value(self: Reader, letter: str, text: str) -> Any:
        return function(text) if letter == kind else right("scope_value")(self, letter, text)

    return {"scope_value": scope_value}


def _columns(function: Wrong) -> Methods:
    """Other names of scope columns."""
    return after("scope_pairs", lambda pairs: {function(name): pairs[name] for name in pairs})


def _names(function: Wrong) -> Methods:
    """Other names of table and column."""
    return after("name_pairs", lambda pairs: {name: function(pairs[name]) for name in pairs})


def _by_names(self: Reader, cell: Any) -> dict[str, str]:
    columns, parts = sorted(cell["scope_columns"]), self.scope_parts(cell)
    return {n: self.scope_value(p[0], p[1:]) for n, p in zip(columns, parts, strict=False)}


def _checked(condition: Wrong) -> Methods:
    """Other names refused; the condition is of the keyring's and of the columns'."""
    return {
        "check_names": lambda _, keyring, columns: require(
            condition(list(keyring), columns), "ConfigurationError"
        )
    }


def _unlike(keyring: list[str], columns: list[str]) -> bool:
    return len({name.lower() for name in keyring + columns}) == len(keyring + columns)


def _unreserved(keyring: list[str], columns: list[str], *begin: str) -> bool:
    reserved = begin or ("kmsenv:", "aws:")
    return not any(name.startswith(reserved) for name in keyring + columns)


def _row(function: Wrong) -> Methods:
    """Another text of a row that has data keys of its own."""
    return {"row_value": lambda _, cell: ":".join(function(part) for part in cell["row"])}


def _row_of_kind(kind: str, function: Wrong) -> Methods:
    return _row(lambda part: function(part[1:]) if part[0] == kind else part)


def _context(change: Wrong) -> Methods:
    """Other pairs; the change is of the pairs, the cell and the keyring's own pairs."""

    def context(self: Reader, keyring: Any, cell: Any) -> Any:
        return change(dict(right("context")(self, keyring, cell)), cell, keyring)

    return {"context": context}


def _less(pairs: Mapping[str, str], names: Any) -> dict[str, str]:
    return {name: text for name, text in pairs.items() if name not in names}


MISTAKES: Mistakes = {
    "7.2 scope value of text in NFC": _value("s", nfc),
    "7.2 scope value of text in small letters": _value("s", str.lower),
    "7.2 scope value of text: blanks at its ends dropped": _value("s", str.strip),
    "7.2 scope value of text: outside of ASCII escaped": _value(
        "s", lambda text: text.encode("ascii", "backslashreplace").decode()
    ),
    "7.2 scope value of text: beyond the BMP replaced": _value(
        "s", lambda text: re.sub("[\U00010000-\U0010ffff]", "?", text)
    ),
    "7.2 scope value of text: NUL ends it": _value("s", lambda text: text.split("\0")[0]),
    "7.2 scope value of text as hexadecimal": _part("s", str),
    "7.2 scope value of an integer: by way of binary64": _value(
        "i", lambda text: str(int(float(text)))
    ),
    "7.2 scope value of an integer: 0 is none": _value(
        "i", lambda text: "" if text == "0" else text
    ),
    "7.2 scope value of bytes in capitals": _value("b", str.upper),
    "7.2 scope value of bytes in base64": _value(
        "b", lambda text: base64.b64encode(bytes.fromhex(text)).decode()
    ),
    "7.2 scope value of a UUID without hyphens": _part("u", str),
    "7.2 scope value of a UUID in capitals": _value("u", str.upper),
    "7.2 scope value of a date without hyphens": _value("d", lambda text: text.replace("-", "")),
    "7.2 scope value of date and time as its part": _part("t", str),
    "7.2 scope value of date and time: fraction of zeros left out": _value(
        "t", lambda text: text.replace(".000000", "")
    ),
    "7.2 scope value of date and time: zeros at the fraction's end left out": _value(
        "t", lambda text: re.sub(r"(\.\d*[1-9])0+(?=Z?$)", r"\1", text)
    ),
    "7.2 scope value of date and time: +00:00 for Z": _value(
        "t", lambda text: text.replace("Z", "+00:00")
    ),
    "7.2 scope value of date and time: milliseconds": _value(
        "t", lambda text: re.sub(r"(\.\d{3})\d{3}", r"\1", text)
    ),
    "7.2 scope value is the part, with its letter": {
        "scope_value": lambda _, kind, text: kind + text
    },
    "4.6 scope part of another form: an error of the reader": {
        "scope_pairs": lambda self, cell: {
            n: self.scope_value(p[0], p[1:])
            for n, p in zip(cell["scope_columns"], self.scope_parts(cell), strict=False)
        }
    },
    "7.1 names of scope columns in small letters": _columns(str.lower),
    "7.1 names of scope columns in NFC": _columns(nfc),
    "7.1 names of scope columns outside of ASCII replaced": _columns(
        lambda name: name.encode("ascii", "replace").decode()
    ),
    "7.1 names of scope columns: blanks and points replaced": _columns(
        lambda name: re.sub(r"[ .]", "_", name)
    ),
    "7.1 scope pairs of empty values left out": after(
        "scope_pairs", lambda pairs: {name: text for name, text in pairs.items() if text}
    ),
    "7.1 scope columns paired in the order of their names": {"scope_pairs": _by_names},
    "7.1 names in NFC in the context": _names(nfc),
    "7.1 names in small letters in the context": _names(str.lower),
    "7.1 names: blanks at their ends dropped in the context": _names(str.strip),
    "7.1 names: colons replaced in the context": _names(lambda text: text.replace(":", "_")),
    "7.3 reserved names not refused": _checked(_unlike),
    "7.3 reserved names only refused in small letters": _checked(
        lambda k, c: _unlike(k, c) and _unreserved(k, c)
    ),
    "7.3 names that differ by case alone not refused": _checked(lambda k, c: not set(k) & set(c)),
    "7.3 a scope column overrides the keyring's pair of its name": _checked(lambda *_: True),
    "7.3 names that only begin with kmsenv or aws refused": _checked(
        lambda k, c: _unlike(k, c) and _unreserved(k, [n.lower() for n in c], "kmsenv", "aws")
    ),
    "7.3 names with any colon refused": _checked(
        lambda k, c: _unlike(k, c) and not any(":" in name for name in c)
    ),
    "7.1 row in the context decoded to text": _row_of_kind(
        "s", lambda text: bytes.fromhex(text).decode()
    ),
    "7.1 row in the context without letters": _row(lambda part: part[1:]),
    "7.1 row in the context: UUID with hyphens": _row_of_kind(
        "u", lambda text: "u" + str(uuid.UUID(text))
    ),
    "7.1 row in the context: date and time as in 7.2": _row_of_kind(
        "t", lambda text: "t" + right("scope_value")(Reader(), "t", text)
    ),
    "7.1 row in the context sorted": after(
        "row_value", lambda text: ":".join(sorted(text.split(":")))
    ),
    "7.1 row in the context: a colon behind the last": after("row_value", lambda text: text + ":"),
    "7.1 keyring's pairs left out where each row has its own data keys": _context(
        lambda pairs, cell, keyring: _less(pairs, keyring) if cell["scope_is_row"] else pairs
    ),
    "7.1 keyring's pairs left out": _context(lambda pairs, _, keyring: _less(pairs, keyring)),
    "7.1 kmsenv:row in each context": _context(
        lambda pairs, cell, _: pairs | {"kmsenv:row": ":".join(cell["row"])}
    ),
}
