"""Keyrings, their policy, the data keys in use, and what is told of them."""

from sqlalchemy_kmsenv.keyring.audit import AuditHook, KeyUse, RefusalKind
from sqlalchemy_kmsenv.keyring.inquiries import ContextPairs
from sqlalchemy_kmsenv.keyring.keyring import Keyring
from sqlalchemy_kmsenv.keyring.opening_keys import CommitmentError
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.stats import KeyringStats

__all__ = [
    "AuditHook",
    "CachePolicy",
    "CommitmentError",
    "ContextPairs",
    "KeyUse",
    "Keyring",
    "KeyringStats",
    "RefusalKind",
]
