"""JSON documents as they are sealed (FORMAT.md, clause 6.5): RFC 8259, UTF-8, not too deep."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 100
"""Objects and arrays inside of each other that are written. Python reads some 900 of them, and
fewer the deeper its stack is; Ruby 100, .NET 64 unless told otherwise, PHP 512."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_AS_ONE_PAIR = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


class Document(bytes):
    """A document that another serializer has written, and that was looked through."""


def written_document(text: str | bytes) -> Document:
    """What a serializer of the application wrote.

    Raises:
        ValueError: it is not what ``json_from_bytes`` reads, or too deep.
    """
    document = checked_document(text)
    json_from_bytes(document)
    return Document(document)


def json_to_bytes(value: Any) -> bytes:
    """The document of a value.

    Raises:
        ValueError: JSON cannot say it, or it is too deep. Its message holds nothing of it.
    """
    if type(value) is Document:
        return value
    try:
        return checked_document(_ENCODER.encode(value))
    except (TypeError, ValueError, RecursionError):
        # The message and the traceback of json may hold the value.
        raise ValueError("not representable in JSON (RFC 8259)") from None


def json_from_bytes(payload: bytes) -> Any:
    """The value of a document.

    Raises:
        ValueError: not JSON in UTF-8, or with a number that is none here.
    """
    return _DECODER.decode(payload.decode())


def checked_document(text: str | bytes) -> bytes:
    """A document as it is stored.

    Raises:
        ValueError: deeper than ``MAX_DEPTH``, or no text.
    """
    document = text.encode() if isinstance(text, str) else text
    if document.count(b"[") + document.count(b"{") > MAX_DEPTH and _is_too_deep(document):
        raise ValueError(f"a document deeper than {MAX_DEPTH}")
    return document


def _is_too_deep(document: bytes) -> bool:
    brackets = _STRING.sub(b"", document).translate(_AS_ONE_PAIR, _NO_BRACKET)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not in RFC 8259")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number beyond binary64")
    return number


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
