"""Primary keys as bounds of pages: conditions in SQL, JSON in checkpoints, text in reports."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, not_, or_
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.columns.own_operators import compared
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.printable import printable

Key = tuple[Any, ...]

_FORMS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    # Name in the JSON: type, to JSON, from JSON. Exact types: a bool is an int, a datetime a date.
    "int": (int, str, int),
    "str": (str, str, str),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "float": (float, float.hex, float.fromhex),
    "bool": (bool, bool, bool),
}
_NAMES = {form[0]: name for name, form in _FORMS.items()}


def key_to_json(key: Key | None) -> list[list[Any]] | None:
    """A key as JSON that ``key_from_json`` gives back.

    Raises:
        ConfigurationError: a part is of a type that has no form here.
    """
    return None if key is None else [_part_to_json(part) for part in key]


def key_from_json(document: Any) -> Key | None:
    """The key that ``key_to_json`` wrote.

    Raises:
        ValueError, KeyError, TypeError: it did not write that.
    """
    if document is None:
        return None
    return tuple(_part_from_json(name, text) for name, text in document)


def key_text(key: Key) -> tuple[str, ...]:
    """A key as reports show it."""
    return tuple(part.hex() if isinstance(part, bytes) else printable(str(part)) for part in key)


def bound_parameters(prefix: str, key: Key) -> dict[str, Any]:
    """The values for the parameters of ``behind`` and ``up_to``."""
    return {f"{prefix}_{i}": part for i, part in enumerate(key)}


def behind(
    columns: Sequence[ColumnElement[Any]], prefix: str, dialect: Dialect
) -> ColumnElement[bool]:
    """The condition "the key is greater than the parameters", so that an index serves it.

    PostgreSQL and SQLite go to the place in the index for a comparison of rows;
    MySQL and MariaDB for the same written out with OR.
    """
    bounds = _bounds(columns, prefix)
    if len(columns) == 1 or dialect.name not in ("mysql", "mariadb"):
        return compared(columns, ">", bounds, dialect)
    alternatives = [
        and_(
            *(c == b for c, b in zip(columns[:i], bounds[:i], strict=True)), columns[i] > bounds[i]
        )
        for i in range(len(columns))
    ]
    return and_(columns[0] >= bounds[0], or_(*alternatives))


def up_to(
    columns: Sequence[ColumnElement[Any]], prefix: str, dialect: Dialect
) -> ColumnElement[bool]:
    """The condition "the key is not greater than the parameters"."""
    bounds = _bounds(columns, prefix)
    if len(columns) == 1 or dialect.name not in ("mysql", "mariadb"):
        return compared(columns, "<=", bounds, dialect)
    return and_(columns[0] <= bounds[0], not_(behind(columns, prefix, dialect)))


def _bounds(columns: Sequence[ColumnElement[Any]], prefix: str) -> list[BindParameter[Any]]:
    return [bindparam(f"{prefix}_{i}", type_=each.type) for i, each in enumerate(columns)]


def _part_to_json(part: Any) -> list[Any]:
    name = _NAMES.get(type(part))
    if name is None:
        raise ConfigurationError(
            f"a primary key of type {type(part).__name__} cannot be kept in a checkpoint; run the"
            " job without one"
        )
    return [name, _FORMS[name][1](part)]


def _part_from_json(name: str, text: Any) -> Any:
    _, to_json, from_json = _FORMS[name]
    try:
        part = from_json(text)
    except (AttributeError, ArithmeticError) as error:
        raise ValueError(f"no {name}") from error
    if to_json(part) != text:
        raise ValueError(f"another spelling of {name}")
    return part
