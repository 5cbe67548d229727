"""Keyrings, their policy and the data keys in use."""

from sqlalchemy_kmsenv.keyring.keyring import CommitmentError, ContextPairs, Keyring
from sqlalchemy_kmsenv.keyring.policy import CachePolicy

__all__ = ["CachePolicy", "CommitmentError", "ContextPairs", "Keyring"]
