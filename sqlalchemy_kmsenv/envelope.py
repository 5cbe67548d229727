"""The stored bytes, format 1 (FORMAT.md, clauses 2 and 3). Knows no keys."""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field

from sqlalchemy_kmsenv.errors import EnvelopeError

MAGIC = b"\xe5\x01"
"""A mark and the format version. Never part of valid UTF-8 text (clause 2.2)."""

SUITE_AES_256_GCM_HKDF = 0x01
REFERENCE_INLINE = 0x00
REFERENCE_KEY_TABLE = 0x01
REFERENCE_DIRECT = 0x02

FINGERPRINT_BYTES = 8
MATERIAL_HINT_BYTES = 8
UNKNOWN_MATERIAL = bytes(MATERIAL_HINT_BYTES)
COMMITMENT_BYTES = 32
MAX_WRAPPED_BYTES = 6144
"""The KMS API's own limit for a ``CiphertextBlob``."""
NONCE_AND_TAG_BYTES = 12 + 16

_INLINE = struct.Struct(">8s8s32sH")
_FIXED_BYTES = 4
_VALUE_TYPES = range(1, 0x100)

_ARN = re.compile(r"(arn:[^:]*:kms:)[^:]*(:[^:]*:key/mrk-.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class InlineReference:
    """A wrapped data key that travels with its value."""

    fingerprint: bytes
    """First 8 bytes of SHA-256 of the KMS key's ARN (``key_fingerprint``)."""
    material_hint: bytes
    """First 8 bytes of the key material id, zeros when unknown. Not authenticated."""
    commitment: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)

    def serialize(self) -> bytes:
        """The reference as clause 3.1 lays it out."""
        if not 0 < len(self.wrapped) <= MAX_WRAPPED_BYTES:
            raise EnvelopeError(
                f"a wrapped data key takes 1 to {MAX_WRAPPED_BYTES} bytes, got {len(self.wrapped)}"
            )
        return (
            _INLINE.pack(self.fingerprint, self.material_hint, self.commitment, len(self.wrapped))
            + self.wrapped
        )


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the nonce: everything that says how to open the rest."""

    reference: InlineReference
    value_type: int
    size: int
    """Bytes from the magic to the last byte before the nonce."""


def serialize_header(reference: InlineReference, value_type: int) -> bytes:
    """Magic, suite, key reference and value type: all that precedes the nonce."""
    fixed = MAGIC + bytes((SUITE_AES_256_GCM_HKDF, REFERENCE_INLINE))
    return fixed + reference.serialize() + bytes((value_type,))


def parse_header(stored: bytes, start: int = 0) -> Header:
    """The header of the envelope that begins at index ``start``.

    Raises:
        EnvelopeError: not an envelope, truncated, or of a version, suite or key
            reference that this release does not read.
    """
    size = len(stored) - start
    if size == 0:
        raise EnvelopeError(
            "not an envelope: 0 bytes. Nothing was sealed here: MySQL and MariaDB store such cells"
            " when a NOT NULL column is added to a table that has rows. Write values to them; and"
            " add such a column nullable, until every row has its value"
        )
    if size < _FIXED_BYTES:
        raise EnvelopeError(f"not an envelope: {size} bytes, fewer than any envelope has")
    if stored[start] != MAGIC[0]:
        raise EnvelopeError(
            "not an envelope: the first byte is not 0xE5. Was the column written without"
            " this library, or in plaintext before it was encrypted?"
        )
    _require(stored[start + 1] == MAGIC[1], "format version", stored[start + 1])
    suite, kind = stored[start + 2], stored[start + 3]
    _require(suite == SUITE_AES_256_GCM_HKDF, "suite", suite)
    _require(kind == REFERENCE_INLINE, "key reference", kind)
    return _parse_inline(stored, start, size)


def key_fingerprint(key_arn: str) -> bytes:
    """8 bytes that name a KMS key; all replicas of a multi-Region key share them."""
    without_region = _ARN.sub(r"\1\2", key_arn)
    return hashlib.sha256(without_region.encode()).digest()[:FINGERPRINT_BYTES]


def material_hint(material_id: str | None) -> bytes:
    """8 bytes that name key material: the start of its id, zeros when unknown."""
    try:
        start = bytes.fromhex((material_id or "")[: 2 * MATERIAL_HINT_BYTES])
    except ValueError:
        return UNKNOWN_MATERIAL
    return start if len(start) == MATERIAL_HINT_BYTES else UNKNOWN_MATERIAL


def _parse_inline(stored: bytes, start: int, size: int) -> Header:
    reference_at = start + _FIXED_BYTES
    if size < _FIXED_BYTES + _INLINE.size:
        raise EnvelopeError(f"truncated envelope: {size} bytes end inside the key reference")
    fingerprint, hint, commitment, length = _INLINE.unpack_from(stored, reference_at)
    if not 0 < length <= MAX_WRAPPED_BYTES:
        raise EnvelopeError(f"malformed envelope: a wrapped data key of {length} bytes")
    wrapped_at = reference_at + _INLINE.size
    header_size = _FIXED_BYTES + _INLINE.size + length + 1
    if size < header_size + NONCE_AND_TAG_BYTES:
        raise EnvelopeError(
            f"truncated envelope: {size} bytes, at least {header_size + NONCE_AND_TAG_BYTES} needed"
        )
    value_type = stored[start + header_size - 1]
    _require(value_type in _VALUE_TYPES, "value type", value_type)
    wrapped = bytes(stored[wrapped_at : wrapped_at + length])
    return Header(InlineReference(fingerprint, hint, commitment, wrapped), value_type, header_size)


def _require(known: bool, what: str, value: int) -> None:
    if not known:
        raise EnvelopeError(
            f"envelope with unknown {what} 0x{value:02x}: written by a newer release of"
            " sqlalchemy_kmsenv, or damaged"
        )
