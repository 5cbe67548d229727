"""From what an operator has of an envelope, in one spelling or another, to its bytes."""

from __future__ import annotations

import base64
import binascii
import re

from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.envelope import MAGIC

_HEX_MARK = re.compile(r"\\x|0x|[xX]'", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]+")


def envelope_bytes(given: bytes) -> bytes:
    r"""The bytes that ``given`` spells: raw, hexadecimal (``\x``, ``0x``, ``x'..'``) or base64.

    The spellings cannot be mixed up: a raw envelope begins with a byte that begins no
    text of one character, and base64 of one begins with ``5Q``, which is not hexadecimal.

    Raises:
        Refusal: it is none of these.
    """
    if given[:1] == MAGIC[:1]:
        return given
    try:
        text = "".join(given.decode("ascii").split())
    except UnicodeDecodeError:
        # Bytes, but no envelope: the parser says so.
        return given
    mark = _HEX_MARK.match(text)
    digits = text[mark.end() :].removesuffix("'") if mark else text
    if _HEX.fullmatch(digits):
        if len(digits) % 2:
            raise Refusal(f"{len(digits)} hexadecimal digits are no whole number of bytes")
        return bytes.fromhex(digits)
    if mark is None and text:
        decoded = _from_base64(text)
        if decoded is not None:
            return decoded
    raise Refusal("neither hexadecimal, base64 nor the bytes of an envelope")


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.translate({0x2D: "+", 0x5F: "/"}), validate=True)
    except binascii.Error:
        return None
