"""What the rest of the library asks of a key service."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, SupportsIndex, runtime_checkable

from sqlalchemy_kmsenv.errors import ConfigurationError

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
    request_id: str | None = None
    """The call's own id, as the service logs it; None where it has none."""

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a GeneratedDataKey holds a data key and cannot be pickled")


class UnwrappedDataKey(bytearray):
    """A data key with what else the answer told; any other ``bytearray`` does as well."""

    key_arn: str | None = None
    """The key that unwrapped it: of a multi-Region key, the one in the Region that answered."""
    material_id: str | None = None
    request_id: str | None = None

    def __repr__(self) -> str:
        return f"<UnwrappedDataKey of {len(self)} bytes>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an UnwrappedDataKey is a data key and cannot be pickled or copied")


@dataclass(frozen=True, slots=True)
class ReWrappedDataKey:
    """A data key wrapped anew without leaving the service (KMS ``ReEncrypt``)."""

    wrapped: bytes = field(repr=False)
    key_arn: str
    material_id: str | None
    request_id: str | None = None
    source_material_id: str | None = None
    """The key material that had wrapped it before; None where the service does not tell."""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """What a key service says of one KMS key (KMS ``DescribeKey``)."""

    arn: str
    state: str
    """``KeyState`` of the KMS API: ``Enabled``, ``Disabled``, ``PendingDeletion``, ..."""
    material_id: str | None
    """The key material that wraps now; None where the service does not tell."""
    spec: str = "SYMMETRIC_DEFAULT"
    usage: str = "ENCRYPT_DECRYPT"
    multi_region: bool = False


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """Whether a key service rotates a key by itself (KMS ``GetKeyRotationStatus``)."""

    enabled: bool
    period_days: int | None
    next_at: datetime.datetime | None


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

        An ``UnwrappedDataKey`` where the service tells more than the key.

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


@runtime_checkable
class InspectableKms(Kms, Protocol):
    """A ``Kms`` that also tells of its key, and what it would allow, without doing it."""

    def describe(self) -> KeyDescription:
        """What the service says of the key that wraps. One call."""
        ...

    def would_generate(self, context: EncryptionContext) -> None:
        """Return where ``generate_data_key`` would work now; raise what it would. One call."""
        ...

    def would_unwrap(
        self, context: EncryptionContext, *, key_arn: str, wrapped: bytes | None = None
    ) -> None:
        """Return where ``unwrap`` would work now; raise what it would. One call.

        Without ``wrapped`` permissions and key state alone are looked at, and AWS
        needs a botocore that knows ``DryRunModifiers`` for that.
        """
        ...

    def would_rewrap(
        self,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
        wrapped: bytes | None = None,
    ) -> None:
        """Return where ``rewrap`` would work now; raise what it would. One call."""
        ...


@runtime_checkable
class RotatingKms(Kms, Protocol):
    """A ``Kms`` that tells whether its key is rotated without anybody asking for it."""

    def rotation(self) -> KeyRotation:
        """What the service says. One call."""
        ...


@runtime_checkable
class ReplicatedKms(Kms, Protocol):
    """A ``Kms`` that unwraps in other Regions too, where its own is unavailable."""

    def replicas(self) -> Sequence[InspectableKms]:
        """The key in each of these Regions, in the order of trying; none is asked.

        Each resolves to its ARN there. Raises what ``resolve`` of the key itself would.
        """
        ...


def inspectable(kms: Kms) -> InspectableKms:
    """``kms`` itself, if it can be asked what it is and what it would allow.

    Raises:
        ConfigurationError: it cannot.
    """
    if isinstance(kms, InspectableKms):
        return kms
    message = (
        f"{kms!r} cannot be asked about its key or its permissions; give its class the methods of"
        " InspectableKms, or do without the answer"
    )
    raise ConfigurationError(message)
