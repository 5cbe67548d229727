"""What a type is on each database.

Reads the private ``_variant_mapping`` of types and ``_storage_format`` of SQLite's DATE,
seen on 2.0.36 and 2.1.9 (``tests/columns/test_refusals.py`` holds them to it).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

_ISO_8601 = "%(year)04d-%(month)02d-%(day)02d"


def type_and_variants(generic: TypeEngine[Any]) -> list[TypeEngine[Any]]:
    """The type itself, and what ``with_variant`` puts in its place on some databases."""
    return [generic, *generic._variant_mapping.values()]


def has_format_of_its_own(kind: TypeEngine[Any]) -> bool:
    """Whether SQLite keeps dates of this type as another text than ISO 8601."""
    return isinstance(kind, sqlite.DATE) and kind._storage_format != _ISO_8601
