"""Defaults that run in the application, evaluated before SQLAlchemy would.

SQLAlchemy runs them when it has compiled the statement; a value that is sealed,
or that names the row of one, is needed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.schema import ColumnDefault

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.columns.dml import Rows


@dataclass(frozen=True, slots=True)
class DefaultContext:
    """What a default function that takes a context can ask it for."""

    connection: Connection
    current_parameters: dict[str, Any]
    current_column: Column[Any]
    isinsert: bool

    @property
    def isupdate(self) -> bool:
        """Whether the row is updated."""
        return not self.isinsert

    @property
    def root_connection(self) -> Connection:
        """The connection, as SQLAlchemy's own context calls it too."""
        return self.connection

    @property
    def engine(self) -> Engine:
        """The engine of the connection."""
        return self.connection.engine

    @property
    def execution_options(self) -> Mapping[str, Any]:
        """The options of the connection."""
        return self.connection.get_execution_options()

    @property
    def dialect(self) -> Dialect:
        """The dialect of the connection."""
        return self.connection.dialect

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        """The parameters of the row, by column key."""
        return self.current_parameters


def insert_default(column: Column[Any]) -> ColumnDefault | None:
    """The column's ``default=``, where it is a value or a Python function."""
    return in_application(column.default)


def update_default(column: Column[Any]) -> ColumnDefault | None:
    """The column's ``onupdate=``, where it is a value or a Python function."""
    return in_application(column.onupdate)


def evaluate(default: ColumnDefault, connection: Connection, rows: Rows) -> list[Any]:
    """One value a row; a function may look at the other values of ``rows``."""
    if default.is_scalar:
        return [default.arg] * len(rows)
    function: Any = default.arg
    column: Any = default.column
    inserts = column.default is default
    return [
        function(DefaultContext(connection, dict(row), column, isinsert=inserts)) for row in rows
    ]


def in_application(default: Any) -> ColumnDefault | None:
    """``default`` itself, where it is a value or a Python function; None for all else."""
    if isinstance(default, ColumnDefault) and (default.is_scalar or default.is_callable):
        return default
    return None
