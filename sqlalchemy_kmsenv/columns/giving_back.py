"""What a statement was executed with, told as if it had not been sealed.

The ORM sets the defaults that ran on its objects, and a result has its
``last_inserted_params()``: both are read from the execution, which saw envelopes.

Writes ``compiled_parameters``, ``compiled``, ``returned_default_rows``,
``inserted_primary_key_rows`` and the private ``_rowcount`` of the execution context, and the
private ``_metadata`` of a result; reads ``insert_prefetch`` and ``update_prefetch`` of the
compiled statement; seen on 2.0.36 and 2.1.9 (``tests/columns/test_differential.py`` holds them to
it).
"""

from __future__ import annotations

from copy import copy
from typing import Any

from sqlalchemy import CursorResult, Table

from sqlalchemy_kmsenv.columns.marks import Execution


def give_back(context: Any, execution: Execution) -> None:
    """Put the values back, and let the defaults that ran here count as SQLAlchemy's own."""
    for sealed, (name, values) in execution.given.items():
        for parameters, value in zip(context.compiled_parameters, values, strict=False):
            del parameters[sealed]
            parameters[name] = value
    if execution.defaulted:
        # A copy: the compiled statement itself also serves executions that give the values.
        compiled = copy(context.compiled)
        attribute = "insert_prefetch" if context.isinsert else "update_prefetch"
        own = getattr(compiled, attribute)
        defaulted = [column for column in execution.defaulted if column not in set(own)]
        setattr(compiled, attribute, [*own, *defaulted])
        context.compiled = compiled


def count_rows(context: Any, count: int) -> None:
    """Let the result say so many rows, where the driver would count otherwise."""
    context._rowcount = count


def drop_rows(result: CursorResult[Any]) -> None:
    """Let a result tell defaults and give no rows: SQLAlchemy leaves those for the ORM in it."""
    result.all()


def _gives_key(context: Any, table: Table) -> bool:
    """Whether the one row of an INSERT has a key that the application gives."""
    (given,) = context.compiled_parameters
    return all(given.get(column.key) is not None for column in table.primary_key.columns)


def hide_keys(result: CursorResult[Any]) -> None:
    """Let a result tell no keys that it was asked for to seal the rows, or to find them."""
    result._soft_close()
    context: Any = result.context
    table = context.compiled.statement.table
    if context.executemany or _gives_key(context, table):
        # What the parameters say of the keys, which is what SQLAlchemy goes back to.
        vars(context).pop("inserted_primary_key_rows", None)
    elif table.autoincrement_column is None or not context.dialect.postfetch_lastrowid:
        # Here it would have asked for the key of one row as well, and does tell it.
        return
    context.returned_default_rows = None
    result._metadata = result._no_result_metadata
