"""What the rest of the library asks of a key service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

EncryptionContext = Mapping[str, str]

DATA_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class GeneratedDataKey:
    """A fresh data key, in plaintext and wrapped (KMS ``GenerateDataKey``)."""

    plaintext: bytearray = field(repr=False)
    """32 bytes; whoever derives from it overwrites it afterwards."""
    wrapped: bytes = field(repr=False)
    key_arn: str
    """ARN of the KMS key that wrapped it, also when an alias was asked."""
    material_id: str | None
    """64 hexadecimal digits, or None where the service does not tell."""


@dataclass(frozen=True, slots=True)
class ReWrappedDataKey:
    """A data key wrapped anew without leaving the service (KMS ``ReEncrypt``)."""

    wrapped: bytes = field(repr=False)
    key_arn: str
    material_id: str | None


@runtime_checkable
class Kms(Protocol):
    """One KMS key: it wraps, unwraps and re-wraps data keys.

    Every method may raise ``KeyServiceDeniedError``, ``KeyServiceUnavailableError``,
    ``KeyStateError`` or, for what is none of these, ``KeyServiceError``. All are
    safe to call from several threads at once.
    """

    def resolve(self) -> str:
        """ARN of the KMS key that wraps now; asks the service at most once."""
        ...

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """Make a 32-byte data key bound to ``context``. One call."""
        ...

    def unwrap(self, wrapped: bytes, context: EncryptionContext, *, key_arn: str) -> bytearray:
        """The 32-byte data key inside ``wrapped``, with ``key_arn`` pinned. One call.

        Raises:
            WrongCellError: not wrapped by that key under exactly that context,
                or damaged; the service does not tell which.
        """
        ...

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """Wrap the data key in ``wrapped`` (made by ``key_arn``) under this key's newest material.

        ``new_context`` replaces ``context`` where given. One call.

        Raises:
            WrongCellError: as for ``unwrap``.
        """
        ...
