"""Defaults that run in the application, evaluated before SQLAlchemy would.

SQLAlchemy runs them when it has compiled the statement; a value that is sealed,
or that names the row of one, is needed before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import ColumnDefault

from sqlalchemy_kmsenv.columns.dml import Row, Rows


@dataclass(frozen=True, slots=True)
class DefaultContext:
    """What a default function that takes a context can ask it for."""

    connection: Connection
    current_parameters: dict[str, Any]

    @property
    def dialect(self) -> Dialect:
        """The dialect of the connection."""
        return self.connection.dialect

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        """The parameters of the row, by column key."""
        return self.current_parameters


def insert_default(column: Column[Any]) -> ColumnDefault | None:
    """The column's ``default=``, where it is a value or a Python function."""
    return _in_application(column.default)


def update_default(column: Column[Any]) -> ColumnDefault | None:
    """The column's ``onupdate=``, where it is a value or a Python function."""
    return _in_application(column.onupdate)


def evaluate(default: ColumnDefault, connection: Connection, rows: Rows) -> list[Any]:
    """One value a row."""
    if default.is_scalar:
        return [default.arg] * len(rows)
    return [_call(default, connection, row) for row in rows]


def _call(default: ColumnDefault, connection: Connection, row: Row) -> Any:
    function: Any = default.arg
    return function(DefaultContext(connection, dict(row)))


def _in_application(default: Any) -> ColumnDefault | None:
    if isinstance(default, ColumnDefault) and (default.is_scalar or default.is_callable):
        return default
    return None
