"""How a mistake is made of a right step: each helper gives the methods that a wrong reader has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors.reader import Reader
from tests.vectors.values import require

Wrong = Callable[..., Any]
Methods = dict[str, Wrong]
Mistakes = dict[str, Methods]
"""Clause and words, and the methods in whose place wrong ones are put."""


def right(name: str) -> Wrong:
    """The method as it should be."""
    method: Wrong = getattr(Reader, name)
    return method


def nfc(text: str) -> str:
    """What many a store makes of a text."""
    return unicodedata.normalize("NFC", text)


def asserted(value: Any, condition: object) -> Any:
    """The value, refused where the condition does not hold."""
    require(condition)
    return value


def before(name: str, check: Wrong) -> Methods:
    """The method, behind a check that takes its arguments and returns nothing."""

    def method(self: Reader, *args: Any) -> Any:
        check(*args)
        return right(name)(self, *args)

    return {name: method}


def asking(name: str, condition: Wrong) -> Methods:
    """The method, which also asks for something of its arguments."""
    return before(name, lambda *args: require(condition(*args)))


def mapped(name: str, function: Wrong) -> Methods:
    """The method with its first argument mapped."""

    def method(self: Reader, first: Any, *args: Any) -> Any:
        return right(name)(self, function(first), *args)

    return {name: method}


def after(name: str, function: Wrong) -> Methods:
    """The method with its result mapped."""

    def method(self: Reader, *args: Any) -> Any:
        return function(right(name)(self, *args))

    return {name: method}


def taking(name: str, table: Mapping[bytes, str]) -> Methods:
    """The method, which takes some payloads more."""

    def method(self: Reader, payload: bytes) -> Any:
        return table[payload] if payload in table else right(name)(self, payload)

    return {name: method}


def unless(name: str, pattern: bytes) -> Methods:
    """The method, which refuses the payloads that match."""
    return asking(name, lambda payload: not re.fullmatch(pattern, payload, re.DOTALL))


def loose(name: str, pattern: bytes) -> Methods:
    """The method, which takes the payloads that match as they are."""

    def method(self: Reader, payload: bytes) -> Any:
        if re.fullmatch(pattern, payload, re.DOTALL):
            return payload.decode("latin-1")
        return right(name)(self, payload)

    return {name: method}
