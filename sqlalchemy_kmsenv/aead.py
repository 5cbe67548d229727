"""All symmetric cryptography of the library, and its only import of ``cryptography``.

Suite 1 (FORMAT.md, clause 5): AES-256-GCM under a key that HKDF-Expand derives
from the data key, together with a commitment to that data key. Nothing here
draws randomness for values: nonces are arguments, so that vectors can test it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag as AuthenticationError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

NONCE_BYTES = 12
TAG_BYTES = 16
COMMITMENT_BYTES = 32

# From here on two large buffers alive at once cost more than a preallocated one;
# below it, plain slices are faster.
LARGE_VALUE_BYTES = 16 * 1024

__all__ = ["AuthenticationError", "ValueCipher", "WrappingCipher"]

_KEY_INFO = b"sqlalchemy-kmsenv format 1 suite 1 value key"
_COMMITMENT_INFO = b"sqlalchemy-kmsenv format 1 suite 1 commitment"


class ValueCipher:
    """Seals and opens values under one data key; holds the derived key, not the data key."""

    __slots__ = ("_aead", "commitment", "decrypt")

    def __init__(self, data_key: bytes | bytearray) -> None:
        self._aead = AESGCM(_expand(data_key, _KEY_INFO))
        self.decrypt = self._aead.decrypt
        """``open`` without its arithmetic, for loops that do their own: nonce, sealed, data."""
        self.commitment = _expand(data_key, _COMMITMENT_INFO)
        """32 bytes that name this data key and no other (FORMAT.md, clause 5.3)."""

    def __repr__(self) -> str:
        return "<ValueCipher>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a ValueCipher holds key material and cannot be pickled")

    def commits_to(self, commitment: bytes) -> bool:
        """Whether ``commitment`` names this data key, compared in constant time."""
        return hmac.compare_digest(self.commitment, commitment)

    def seal_many(
        self,
        header: bytes,
        associated_prefix: bytes,
        sections: Sequence[bytes],
        payloads: Sequence[bytes],
        nonces: bytes,
    ) -> list[bytes | bytearray]:
        """One envelope a payload: ``header``, nonce, ciphertext and tag.

        ``nonces`` holds 12 bytes for each payload, never used before under this
        key. The associated data of payload *i* is ``associated_prefix`` followed
        by ``sections[i]``.
        """
        encrypt = self._aead.encrypt
        envelopes: list[bytes | bytearray] = []
        append = envelopes.append
        start = 0
        for section, payload in zip(sections, payloads, strict=True):
            end = start + NONCE_BYTES
            nonce = nonces[start:end]
            start = end
            if len(payload) < LARGE_VALUE_BYTES:
                append(header + nonce + encrypt(nonce, payload, associated_prefix + section))
            else:
                append(self._seal_large(header, associated_prefix + section, payload, nonce))
        return envelopes

    def _seal_large(
        self, header: bytes, associated_data: bytes, payload: bytes, nonce: bytes
    ) -> bytearray:
        start = len(header) + NONCE_BYTES
        envelope = bytearray(start + len(payload) + TAG_BYTES)
        envelope[:start] = header + nonce
        self._aead.encrypt_into(nonce, payload, associated_data, memoryview(envelope)[start:])
        return envelope

    def open(self, stored: bytes, nonce_at: int, associated_data: bytes) -> bytes:
        """The payload of ``stored``, whose nonce begins at index ``nonce_at``.

        Raises:
            AuthenticationError: altered, truncated, or sealed for another cell.
        """
        start = nonce_at + NONCE_BYTES
        sealed = stored[start:] if len(stored) < LARGE_VALUE_BYTES else memoryview(stored)[start:]
        return self._aead.decrypt(stored[nonce_at:start], sealed, associated_data)


class WrappingCipher:
    """AES-256-GCM under one key; like ``ValueCipher``, it shows the key to nobody."""

    # Error reporters dump the locals of frames, and what these refer to. A key that is a
    # Python object would stand there whenever something does not unwrap.

    __slots__ = ("_aead",)

    def __init__(self, key: bytes | bytearray) -> None:
        self._aead = AESGCM(key)

    def __repr__(self) -> str:
        return "<WrappingCipher>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a WrappingCipher holds a key and cannot be pickled")

    def wrap(self, plaintext: bytes | bytearray, associated_data: bytes) -> bytes:
        """A random nonce, ciphertext and tag: 12 + n + 16 bytes."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, associated_data)

    def unwrap(self, blob: bytes, associated_data: bytes) -> bytes:
        """The plaintext of what ``wrap`` made.

        Raises:
            AuthenticationError: altered, truncated, another key or other associated data.
        """
        if len(blob) < NONCE_BYTES + TAG_BYTES:
            raise AuthenticationError
        return self._aead.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], associated_data)


def _expand(data_key: bytes | bytearray, info: bytes) -> bytes:
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(data_key)
