"""Key services: what the library asks of one, and the two that come with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.kms.counting import CountingKms
from sqlalchemy_kmsenv.kms.protocol import (
    DATA_KEY_BYTES,
    EncryptionContext,
    GeneratedDataKey,
    InspectableKms,
    KeyDescription,
    KeyRotation,
    Kms,
    ReWrappedDataKey,
    RotatingKms,
    UnwrappedDataKey,
)
from sqlalchemy_kmsenv.kms.uri import kms_from_uri

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.kms.aws import AwsKms
    from sqlalchemy_kmsenv.kms.local import LocalKms

__all__ = [
    "DATA_KEY_BYTES",
    "AwsKms",
    "CountingKms",
    "EncryptionContext",
    "GeneratedDataKey",
    "InspectableKms",
    "KeyDescription",
    "KeyRotation",
    "Kms",
    "LocalKms",
    "ReWrappedDataKey",
    "RotatingKms",
    "UnwrappedDataKey",
    "kms_from_uri",
]


def __getattr__(name: str) -> object:
    # Not imported above: boto3 is slow to import, and the locks of LocalKms exist on POSIX only.
    if name == "AwsKms":
        return import_module("sqlalchemy_kmsenv.kms.aws").AwsKms
    if name == "LocalKms":
        return import_module("sqlalchemy_kmsenv.kms.local").LocalKms
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
