"""Ciphertext blobs: what the server wraps, and every bit of it authenticated.

| bytes | field |
|---|---|
| 4 | mark, ``01 02 03 00`` |
| 36 | id of the key, ASCII, behind as many zeros as it lacks |
| 32 | id of the key material |
| 52 | zeros: they make a wrapped 32-byte data key as long as that of AWS, 184 bytes |
| 12 + n + 16 | nonce, ciphertext and tag (AES-256-GCM) |

Everything before the nonce, then the encoded encryption context, is associated data.
The Region is not in it: related multi-Region keys open each other's blobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv import aead
from sqlalchemy_kmsenv.kms.arguments import encode_context
from sqlalchemy_kmsenv.testing.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy_kmsenv.testing.keys import Material

_MARK = b"\x01\x02\x03\x00"
_KEY_ID_BYTES = 36
_PADDING = bytes(52)
_MATERIAL_AT = len(_MARK) + _KEY_ID_BYTES
_PADDING_AT = _MATERIAL_AT + 32
_HEADER_BYTES = _PADDING_AT + len(_PADDING)


@dataclass(frozen=True, slots=True)
class Blob:
    """A parsed blob; nothing of it is authenticated yet."""

    key_id: str
    material_id: str
    header: bytes
    sealed: bytes


def seal(key_id: str, material: Material, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """``plaintext`` under this material and context."""
    identity = key_id.encode("ascii").rjust(_KEY_ID_BYTES, b"\0")
    header = _MARK + identity + bytes.fromhex(material.id) + _PADDING
    associated_data = header + encode_context(context)
    return header + aead.WrappingCipher(material.secret).wrap(plaintext, associated_data)


def parse(content: bytes) -> Blob:
    """The parts of a blob.

    Raises:
        Refusal: ``InvalidCiphertextException``, it is none.
    """
    header = content[:_HEADER_BYTES]
    identity = header[len(_MARK) : _MATERIAL_AT].lstrip(b"\0")
    if len(header) < _HEADER_BYTES or not header.startswith(_MARK) or not identity.isascii():
        raise damaged()
    material_id = header[_MATERIAL_AT:_PADDING_AT].hex()
    return Blob(identity.decode("ascii"), material_id, header, content[_HEADER_BYTES:])


def open_blob(blob: Blob, material: Material, context: Mapping[str, str]) -> bytes:
    """The plaintext.

    Raises:
        Refusal: ``InvalidCiphertextException``; damage and a wrong context look alike.
    """
    try:
        cipher = aead.WrappingCipher(material.secret)
        return cipher.unwrap(blob.sealed, blob.header + encode_context(context))
    except aead.AuthenticationError as error:
        raise damaged() from error


def damaged() -> Refusal:
    """What AWS says of every ciphertext that it does not open, without a reason."""
    return Refusal("InvalidCiphertextException", "The ciphertext or its context is invalid.")
