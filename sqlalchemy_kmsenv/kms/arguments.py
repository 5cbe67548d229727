"""Checks on what is handed to a key service, made before any call."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.errors import ConfigurationError, WrongCellError

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.kms.protocol import EncryptionContext

MAX_WRAPPED_BYTES = 6144
"""Longest ``CiphertextBlob`` that Decrypt and ReEncrypt take (KMS API model)."""

_MATERIAL_ID = re.compile(r"[0-9a-f]{64}")


def checked_context(context: EncryptionContext) -> dict[str, str]:
    """A copy of ``context``, all of whose names and values are Unicode text.

    Raises:
        ConfigurationError: a name or value is not; the message never shows a value.
    """
    for name, value in context.items():
        if not (_is_text(name) and _is_text(value)):
            message = (
                f"encryption context pair {name!r} is refused: {type(name).__name__} to "
                f"{type(value).__name__}, where KMS takes Unicode text only; "
                "turn both into str without lone surrogates"
            )
            raise ConfigurationError(message)
    return dict(context)


def encode_context(context: EncryptionContext) -> bytes:
    """``context`` as associated data: equal contexts, and no others, encode alike.

    Pairs in the order of their UTF-8 names; each name and value behind its length
    in bytes, unsigned, 32 bits, big-endian.
    """
    # Lengths, not separators: {"a": "b=c"} must differ from {"a=b": "c"}.
    pairs = sorted((k.encode(), v.encode()) for k, v in checked_context(context).items())
    return b"".join(struct.pack(">I", len(part)) + part for pair in pairs for part in pair)


def checked_wrapped(wrapped: bytes) -> bytes:
    """``wrapped`` itself, if a key service could have made it.

    Raises:
        WrongCellError: its length is none that KMS accepts.
    """
    # KMS would answer ValidationException, which reads like a fault of the configuration.
    if not 1 <= len(wrapped) <= MAX_WRAPPED_BYTES:
        message = (
            f"a wrapped data key of {len(wrapped)} bytes is refused (1 to {MAX_WRAPPED_BYTES} "
            "are possible): it is damaged; restore the stored value from a backup"
        )
        raise WrongCellError(message)
    return wrapped


def is_material_id(value: object) -> bool:
    """Whether ``value`` is 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _MATERIAL_ID.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
