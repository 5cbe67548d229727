"""Encrypted SQLAlchemy columns: sealed with AES-256-GCM, bound to their rows, keys in a KMS."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.by_hand import Explanation, Finding, explain, open_cells, seal_cells
from sqlalchemy_kmsenv.columns import (
    Encrypted,
    Refused,
    RevokedDataKeys,
    UnboundValueError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.errors import (
    AuditError,
    ConfigurationError,
    EnvelopeError,
    InvalidValueError,
    KeyServiceDeniedError,
    KeyServiceError,
    KeyServiceUnavailableError,
    KeyStateError,
    KmsEnvError,
    RevokedKeyError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CachePolicy, Keyring, KeyringStats, KeyUse, RefusalKind
from sqlalchemy_kmsenv.version import VERSION

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.kms import AwsKms, LocalKms

# Errors are shown by their public names.
for _public in (Encrypted, Refused, UnboundValueError):
    _public.__module__ = __name__
del _public

__version__ = VERSION

__all__ = [
    "AuditError",
    "AwsKms",
    "CachePolicy",
    "ConfigurationError",
    "Encrypted",
    "EnvelopeError",
    "Explanation",
    "Finding",
    "InvalidValueError",
    "KeyServiceDeniedError",
    "KeyServiceError",
    "KeyServiceUnavailableError",
    "KeyStateError",
    "KeyUse",
    "Keyring",
    "KeyringStats",
    "KmsEnvError",
    "LocalKms",
    "RefusalKind",
    "Refused",
    "RevokedDataKeys",
    "RevokedKeyError",
    "UnboundValueError",
    "WrongCellError",
    "attach_keyrings",
    "explain",
    "open_cells",
    "seal_cells",
]


def __getattr__(name: str) -> object:
    # Not imported above: boto3 takes long to import, and LocalKms needs POSIX.
    if name in ("AwsKms", "LocalKms"):
        return getattr(import_module("sqlalchemy_kmsenv.kms"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
