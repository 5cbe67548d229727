"""What a type is on each database.

Reads the private ``_variant_mapping`` of types and ``_storage_format`` of SQLite's DATE,
seen on 2.0.36 and 2.1.9 (``tests/columns/test_refusals.py`` holds them to it).
"""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

_ISO_8601 = "%(year)04d-%(month)02d-%(day)02d"


class UuidForm(enum.Enum):
    """How a database holds the UUIDs of a column."""

    NATIVE = "a type of its own"
    DIGITS = "32 digits"


def type_and_variants(generic: TypeEngine[Any]) -> list[TypeEngine[Any]]:
    """The type itself, and what ``with_variant`` puts in its place on some databases."""
    return [generic, *generic._variant_mapping.values()]


def on_database(generic: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """What ``with_variant`` puts in the place of a type on this database, or the type."""
    return generic._variant_mapping.get(dialect.name, generic)


def uuid_form(column_type: TypeEngine[Any], dialect: Dialect) -> UuidForm:
    """How a column of UUIDs is stored."""
    stored = on_database(column_type, dialect)
    native = isinstance(stored, types.Uuid) and stored.native_uuid
    if isinstance(stored, types.UUID) or (native and dialect.supports_native_uuid):
        return UuidForm.NATIVE
    return UuidForm.DIGITS


def has_format_of_its_own(kind: TypeEngine[Any]) -> bool:
    """Whether SQLite keeps dates of this type as another text than ISO 8601."""
    return isinstance(kind, sqlite.DATE) and kind._storage_format != _ISO_8601
