"""The library under measurement: keyring, tables and one column outside of a database."""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Dialect, Integer, MetaData, String, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.sealing import seal_values

BATCH = 1000
ASSOCIATED_DATA = b"benchmark.value, and about as much as names a cell: i1:"


def keyring(path: Path) -> Keyring:
    """A keyring on the key file at ``path``, which is made if it does not exist."""
    return Keyring(LocalKms(path) if path.exists() else LocalKms.create(path))


def text(size: int) -> str:
    return "".join(random.choices(string.ascii_letters, k=size))


class EncryptedColumn:
    """Seals and opens as INSERT and SELECT do, without a database."""

    def __init__(self, directory: Path, inner: TypeEngine[Any] | None = None) -> None:
        metadata = MetaData()
        encrypted = Encrypted(inner or String())
        Table(
            "benchmark",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("value", encrypted),
        )
        attach_keyrings(metadata, keyring(directory / "cells.key"))
        self._dialect: Dialect = sqlite.dialect()
        self._binding = encrypted.binding
        self._identity = self._binding.identity[0]
        self.open: Callable[[Any], Any] = encrypted.result_processor(self._dialect, None)

    def seal(self, keys: Sequence[int], values: Sequence[Any]) -> list[Sealed | None]:
        """One batch: the rows' names are encoded, too."""
        sections = self._identity.parts(keys, self._dialect.name)
        return seal_values(self._binding, values, sections, self._dialect)

    def packed(self, keys: Sequence[int], values: Sequence[Any]) -> list[bytes]:
        """What a SELECT returns for these rows."""
        sections = self._identity.parts(keys, self._dialect.name)
        sealed = self.seal(keys, values)
        return [
            section + bytes(value.stored)
            for section, value in zip(sections, sealed, strict=True)
            if value is not None
        ]


def bare_seal(encrypt: Callable[..., bytes], values: Sequence[bytes]) -> list[bytes]:
    """AES-GCM and a fresh nonce, nothing else: no name of a row, no header, no encoding."""
    urandom = os.urandom
    return [encrypt(urandom(12), value, ASSOCIATED_DATA) for value in values]
