"""Which columns values can be bound to, and the form in which a database holds their values."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    DATETIME_PART,
    INT_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.columns.variants import (
    DIALECTS,
    Stored,
    driver_hook,
    has_format_of_its_own,
    is_native_uuid,
    on_database,
    type_and_variants,
)

_SAMPLE = uuid.UUID("01234567-89ab-4cde-8f01-23456789abcd")


class Form(enum.Enum):
    """How a database holds the values of a kind that there are several ways to hold."""

    ONLY = "the only way"
    NATIVE = "UUID, a type of the database"
    DIGITS = "UUID, text of 32 digits"
    HYPHENS = "UUID, text with hyphens"
    BYTES = "UUID, 16 bytes"
    NAIVE = "date and time without a time zone"
    UTC = "date and time with one, in UTC where the database has no type for it"


def kind_of(column_type: TypeEngine[Any]) -> PartKind | None:
    """The one kind of part for the values of a column, whatever the database; None for none."""
    stored = [on_database(column_type, dialect) for dialect in DIALECTS]
    if any(driver_hook(each) for one in stored for each in one.decorators):
        return None
    kinds = {_kind_of_stored(each.type) for each in stored + _more_variants(column_type)}
    if UUID_PART in kinds and isinstance(column_type, TypeDecorator):
        # Native on one database, text or bytes on another: the decorator says which.
        kinds -= {STR_PART, BYTES_PART}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is DATETIME_PART and not _agree_on_zone([each.type for each in stored]):
        return None
    return kind


def form_of(kind: PartKind, column_type: TypeEngine[Any], dialect: Dialect) -> Form:
    """How a database holds the values of a column that ``kind`` is the kind of."""
    if kind is UUID_PART:
        return _uuid_form(on_database(column_type, dialect), dialect)
    if kind is DATETIME_PART:
        zoned = any(_has_zone(on_database(column_type, each).type) for each in DIALECTS)
        return Form.UTC if zoned else Form.NAIVE
    return Form.ONLY


def stored_types(column_type: TypeEngine[Any]) -> list[TypeEngine[Any]]:
    """What a column is on each of the databases."""
    return [on_database(column_type, dialect).type for dialect in DIALECTS]


def _more_variants(column_type: TypeEngine[Any]) -> list[Stored]:
    if isinstance(column_type, TypeDecorator):
        return []
    return [Stored(each, ()) for each in type_and_variants(column_type)]


def _kind_of_stored(kind: TypeEngine[Any]) -> PartKind | None:
    # MySQL cuts blanks off a text that is too long for its 255 bytes, without a word.
    if isinstance(kind, (mysql.TINYTEXT, mysql.SET)) or has_format_of_its_own(kind):
        return None
    # ZEROFILL changes the text of a number, BINARY pads with zeros what is not of its length.
    if getattr(kind, "zerofill", False):
        return None
    if isinstance(kind, types.BINARY):
        return BYTES_PART if kind.length else None
    kinds: Sequence[tuple[type[TypeEngine[Any]], PartKind]] = (
        (types.Integer, INT_PART),
        (types.Uuid, UUID_PART),
        (types.LargeBinary, BYTES_PART),
        (types.VARBINARY, BYTES_PART),
        (types.DateTime, DATETIME_PART),
        (types.Date, DATE_PART),
        (types.String, STR_PART),
    )
    return next((part for base, part in kinds if isinstance(kind, base)), None)


def _agree_on_zone(stored: Sequence[TypeEngine[Any]]) -> bool:
    # Only PostgreSQL has a type with a time zone; it must be the one that the model says.
    of_postgresql = next(
        kind for kind, dialect in zip(stored, DIALECTS, strict=True) if dialect.name == "postgresql"
    )
    return _has_zone(of_postgresql) or not any(map(_has_zone, stored))


def _has_zone(kind: TypeEngine[Any]) -> bool:
    return bool(getattr(kind, "timezone", False))


def _uuid_form(stored: Stored, dialect: Dialect) -> Form:
    kind = stored.type
    if is_native_uuid(kind, dialect):
        return Form.NATIVE
    if isinstance(kind, types.Uuid):
        return Form.DIGITS
    if not isinstance(kind, types.String):
        return Form.BYTES
    if _stored_sample(stored, dialect) == _SAMPLE.hex:
        return Form.DIGITS
    return Form.DIGITS if getattr(kind, "length", None) == len(_SAMPLE.hex) else Form.HYPHENS


def _stored_sample(stored: Stored, dialect: Dialect) -> Any:
    """The text that a decorator makes of a UUID, which only it knows."""
    value: Any = _SAMPLE
    try:
        for step in stored.steps:
            value = step(value, dialect)
    except Exception:  # noqa: BLE001  one that takes another Python type may raise anything
        return None
    return value
