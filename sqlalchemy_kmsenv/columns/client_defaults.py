"""Defaults that run in the application, evaluated before SQLAlchemy would.

SQLAlchemy runs them when it has compiled the statement; a value that is sealed, or that names
the row of one, is needed before, and a function must not be shown envelopes by then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import DontWrapMixin, StatementError
from sqlalchemy.schema import ColumnDefault

from sqlalchemy_kmsenv.columns.transactions import Options
from sqlalchemy_kmsenv.errors import KmsEnvError

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.columns.dml import Rows


@dataclass(frozen=True, slots=True)
class DefaultContext:
    """What a default function that takes a context can ask it for."""

    connection: Connection
    current_parameters: dict[str, Any]
    current_column: Column[Any]
    isinsert: bool
    execution_options: Mapping[str, Any]
    """The options of the statement, its execution and the connection."""

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


def completed(
    columns: Sequence[Column[Any]],
    connection: Connection,
    rows: Rows,
    *,
    isinsert: bool,
    options: Options,
    shown: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The rows with the defaults of ``columns``, evaluated as SQLAlchemy would.

    Row by row, and in the order of ``columns``: a function may look at the other values of
    its row, at defaults that were evaluated before it too; only at those of ``shown`` in
    ``values([...])``. What a row has already is kept.

    Raises:
        StatementError: a function raised an error, which SQLAlchemy raises as this too.
    """
    find = insert_default if isinsert else update_default
    defaults = [(column, default) for column in columns if (default := find(column)) is not None]
    complete = []
    for row in rows:
        # As SQLAlchemy shows them, which has a parameter for each before it runs the first.
        current = {**{column.key: None for column, _ in defaults}, **row}
        for column, default in defaults:
            if column.key in row:
                continue
            if default.is_scalar:
                current[column.key] = default.arg
                continue
            visible = current
            if shown is not None:
                visible = {key: current[key] for key in (*shown, column.key) if key in current}
            context = DefaultContext(connection, visible, column, isinsert, options)
            current[column.key] = _called(default.arg, context)
        complete.append(current)
    return complete


def _called(function: Any, context: DefaultContext) -> Any:
    try:
        return function(context)
    except Exception as error:
        if isinstance(error, (KmsEnvError, DontWrapMixin)):
            raise
        kind = type(error)
        # Without the parameters, which are plaintext here.
        message = f"({kind.__module__}.{kind.__name__}) {error}"
        raise StatementError(message, None, None, error) from error


def in_application(default: Any) -> ColumnDefault | None:
    """``default`` itself, where it is a value or a Python function; None for all else."""
    if isinstance(default, ColumnDefault) and (default.is_scalar or default.is_callable):
        return default
    return None
