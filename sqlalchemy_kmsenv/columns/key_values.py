"""What a database holds for the values that an application gives to a key or scope column."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv.cell import DATETIME_PART, UUID_PART, PartKind
from sqlalchemy_kmsenv.columns.inner_codecs import enum_names
from sqlalchemy_kmsenv.columns.key_types import Form, form_of
from sqlalchemy_kmsenv.columns.variants import Convert, on_database

_MICROSECOND_DIGITS = 6


def stored_values(
    kind: PartKind, column_type: TypeEngine[Any], values: Sequence[Any], dialect: Dialect
) -> Sequence[Any]:
    """The values that parts are made of, one for each of the application's.

    Raises:
        ValueError, TypeError: one that the database would store as another value.
        Exception: whatever a ``TypeDecorator`` of the application raises.
    """
    stored = on_database(column_type, dialect)
    for step in stored.steps:
        values = [step(value, dialect) for value in values]
    if isinstance(stored.type, types.Enum):
        to_name, _ = enum_names(stored.type)
        return [None if value is None else to_name(value, dialect) for value in values]
    if kind is UUID_PART:
        as_uuid = _uuid_reader(stored.type, form_of(kind, column_type, dialect), stored.steps)
        if as_uuid is None:
            return values
        return [None if value is None else as_uuid(value) for value in values]
    if kind is DATETIME_PART:
        read = _datetime_reader(stored.type, form_of(kind, column_type, dialect), dialect)
        return [read(value) if isinstance(value, datetime.datetime) else value for value in values]
    return values


def _uuid_reader(
    kind: TypeEngine[Any], form: Form, steps: Sequence[Convert]
) -> Callable[[Any], uuid.UUID] | None:
    if form is Form.BYTES:
        return lambda value: uuid.UUID(bytes=bytes(value))
    if form is Form.HYPHENS:
        return lambda value: _spelled(value, uuid.UUID(value), str)
    if not isinstance(kind, types.Uuid):
        return lambda value: _spelled(value, uuid.UUID(value), lambda parsed: parsed.hex)
    if not steps and getattr(kind, "as_uuid", True):
        return None
    # A column of type UUID takes every spelling of a text.
    exact = form is Form.DIGITS
    return lambda value: value if isinstance(value, uuid.UUID) else _of_text(value, exact=exact)


def _of_text(value: str, *, exact: bool) -> uuid.UUID:
    # SQLAlchemy takes the hyphens out where it stores digits.
    parsed = uuid.UUID(value)
    return _spelled(value.replace("-", ""), parsed, lambda u: u.hex) if exact else parsed


def _spelled(value: str, parsed: uuid.UUID, spelling: Callable[[uuid.UUID], str]) -> uuid.UUID:
    if value != spelling(parsed):
        raise ValueError("a UUID is given as lower-case hexadecimal digits, with or without -")
    return parsed


def _datetime_reader(
    kind: TypeEngine[Any], form: Form, dialect: Dialect
) -> Callable[[datetime.datetime], datetime.datetime]:
    on_mysql = dialect.name in ("mysql", "mariadb")
    if on_mysql and isinstance(kind, types.TIMESTAMP):
        raise ValueError(
            "it is TIMESTAMP, which MySQL and MariaDB read in the time zone of each connection; use"
            " DATETIME(fsp=6)"
        )
    digits = getattr(kind, "fsp" if on_mysql else "precision", None)
    digits = (0 if on_mysql else _MICROSECOND_DIGITS) if digits is None else digits
    unit = 10 ** (_MICROSECOND_DIGITS - digits)
    drops_zone = dialect.name != "postgresql"

    def read(given: datetime.datetime) -> datetime.datetime:
        value = _plain_datetime(given)
        if value.microsecond % unit:
            raise ValueError(
                f"it keeps {digits} digits of a second, and a finer time was given; declare the"
                " column with more, such as mysql.DATETIME(fsp=6), or cut the time"
            )
        offset = value.utcoffset()
        if form is Form.NAIVE:
            if offset is not None:
                raise ValueError("it has no time zone, and a time with one was given")
            return value
        if offset is None:
            if not drops_zone:
                raise ValueError("it has a time zone, and a time without one was given")
            # What the database gives back for a time in UTC, and stores as it is.
            return value.replace(tzinfo=datetime.UTC)
        if drops_zone and offset:
            raise ValueError("it is stored without its time zone here; give times in UTC")
        return value

    return read


def _plain_datetime(value: datetime.datetime) -> datetime.datetime:
    """A datetime of Python's own; a subclass may hold more than it, such as nanoseconds."""
    if type(value) is datetime.datetime:
        return value
    plain = datetime.datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond, value.tzinfo, fold=value.fold,
    )  # fmt: skip
    if plain != value:
        raise ValueError("it holds datetime, and a value of a finer type was given")
    return plain
