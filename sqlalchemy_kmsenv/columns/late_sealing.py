"""Sealing what was inserted before the database had said which row it became.

One UPDATE batch for all rows of a table that wrote the same columns, in the
transaction of the INSERT: right behind a Core INSERT, and at the end of a flush.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Connection,
    CursorResult,
    LargeBinary,
    Table,
    TableClause,
    and_,
    bindparam,
    column,
    func,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.cell import join_parts
from sqlalchemy_kmsenv.columns.batch import ADDED_PREFIX
from sqlalchemy_kmsenv.columns.binding import Binding, BoundColumn
from sqlalchemy_kmsenv.columns.ledger import LateRows, ledger_of, open_ledger
from sqlalchemy_kmsenv.columns.marks import late_rows_of
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.stored_rows import Key, read_stored
from sqlalchemy_kmsenv.columns.transactions import counts_rows, schema_of

EMPTY = Sealed(b"")
"""Stands in a cell until it is sealed: no envelope, so that reading it is an error."""

_ROWS_A_CHECK = 500


def sending(
    _: Connection, __: Any, ___: str, ____: Any, context: ExecutionContext, _____: bool
) -> None:
    """A ``before_cursor_execute`` listener: an INSERT of rows to be sealed later is sent."""
    rows = late_rows_of(context.invoked_statement)
    if rows is not None:
        rows.sent = True


def refused(error: ExceptionContext) -> None:
    """A ``handle_error`` listener: the database refused it, so that it left no row."""
    context = error.execution_context
    rows = None if context is None else late_rows_of(context.invoked_statement)
    if rows is not None and isinstance(error.sqlalchemy_exception, DBAPIError):
        rows.sent = False


def after_insert(connection: Connection, rows: LateRows, result: CursorResult[Any]) -> None:
    """Learn the keys of the rows that an INSERT left; seal them, unless a flush will.

    Raises:
        UnboundValueError: the database did not say them.
        KeyServiceError: no data key could be had; the transaction cannot be committed.
    """
    ledger = ledger_of(connection)
    ledger.executed(rows)
    keys = [tuple(key) for key in result.inserted_primary_key_rows if key is not None]
    if len(keys) != rows.count or any(None in key for key in keys):
        raise UnboundValueError(
            f"the database did not say which rows of {rows.table.name} were inserted, so their"
            " encrypted columns cannot be sealed; roll back, and give the primary key with each row"
        )
    rows.keys = keys
    if not ledger.flushing:
        seal_waiting(connection)


def seal_waiting(connection: Connection) -> None:
    """Seal every row of this transaction that waits for it, one UPDATE batch a set of columns.

    Raises:
        UnboundValueError: a row is bound to a NULL, or cannot be updated.
        KeyServiceError: no data key could be had; the transaction cannot be committed.
    """
    ledger = ledger_of(connection)
    batches: dict[tuple[Any, ...], list[LateRows]] = {}
    for rows in ledger.waiting:
        batches.setdefault(_batch_key(rows), []).append(rows)
    for inserts in batches.values():
        _seal(connection, inserts)
    ledger.waiting = []


def seal_waiting_of(connection: Connection, written: Table) -> None:
    """Seal what waits, where rows of this table do: an UPDATE must come behind their INSERT.

    Raises:
        UnboundValueError, KeyServiceError: as for ``seal_waiting``.
    """
    ledger = open_ledger(connection)
    if ledger is not None and any(rows.table is written for rows in ledger.waiting):
        seal_waiting(connection)


def _batch_key(rows: LateRows) -> tuple[Any, ...]:
    names = tuple(values.binding.column.key for values in rows.columns)
    return rows.table.key, schema_of(rows.table, rows.options), names


def _seal(connection: Connection, inserts: Sequence[LateRows]) -> None:
    first = inserts[0]
    key_columns = list(first.table.primary_key.columns)
    values: list[list[Sealed | None]] = [[] for _ in first.columns]
    for rows in inserts:
        parts = _parts(connection, rows)
        for sealed, encoded in zip(values, rows.columns, strict=True):
            bound = encoded.binding.bound_columns
            sealed.extend(encoded.seal(join_parts(parts[each.column.key] for each in bound)))
    keys = [key for rows in inserts for key in rows.keys]
    statement, target = _update(first, [each.binding for each in first.columns])
    parameters = [
        {
            **{f"{ADDED_PREFIX}key_{i}": part for i, part in enumerate(key)},
            **{f"{ADDED_PREFIX}value_{i}": cell.stored if cell else None
               for i, cell in enumerate(cells)},
        }
        for key, cells in zip(keys, zip(*values, strict=True), strict=True)
    ]  # fmt: skip
    result = connection.execute(statement, parameters)
    if counts_rows(connection.dialect, len(keys)) and result.rowcount >= 0:
        found = result.rowcount
    else:
        columns = [target.c[each.name] for each in key_columns]
        found = sum(_count(connection, target, columns, keys))
    if found != len(keys):
        raise UnboundValueError(
            f"{len(keys)} rows of {first.table.name} were inserted and {found} of them could be"
            " updated with their sealed values. Does a trigger or a row security policy hide them?"
            " Roll back, and give the primary key with each row"
        )


def _parts(connection: Connection, rows: LateRows) -> dict[str, list[bytes]]:
    """The parts of every bound column, from the INSERT, its keys, and the stored rows."""
    parts = dict(rows.parts)
    dialect_name = connection.dialect.name
    key_columns = list(rows.table.primary_key.columns)
    of_key = dict(
        zip([each.key for each in key_columns], zip(*rows.keys, strict=True), strict=True)
    )
    stored: dict[str, BoundColumn] = {}
    for encoded in rows.columns:
        for bound in encoded.binding.bound_columns:
            name = bound.column.key
            if name in parts:
                continue
            if name in of_key:
                parts[name] = bound.parts(bound.as_given(of_key[name]), dialect_name)
            else:
                stored[name] = bound
    if stored:
        wanted = [bound.column for bound in stored.values()]
        found = read_stored(connection, key_columns, rows.keys, wanted, rows.options)
        present: list[Key] = [row for row in found if row is not None]
        if len(present) == len(found):
            for bound, values in zip(stored.values(), zip(*present, strict=True), strict=True):
                parts[bound.column.key] = bound.parts(bound.as_given(values), dialect_name)
            return parts
        raise UnboundValueError(
            f"rows of {rows.table.name} that were just inserted cannot be read back, so their"
            f" {', '.join(stored)} is not known; roll back, and give it with each row"
        )
    return parts


def _update(rows: LateRows, bindings: Sequence[Binding]) -> tuple[Any, TableClause]:
    """The UPDATE by primary key: of a bare table, so that no default and no hook has its say."""
    keys = list(rows.table.primary_key.columns)
    # What the database changes on every UPDATE was right when the row was inserted.
    kept = [each.name for each in rows.table.columns if each.server_onupdate is not None]
    names = [binding.column.name for binding in bindings]
    columns: list[ColumnClause[Any]] = [
        *(column(each.name, each.type) for each in keys),
        *(column(name, LargeBinary()) for name in names),
        *(column(name) for name in kept if name not in names),
    ]
    target = table(rows.table.name, *columns, schema=schema_of(rows.table, rows.options))
    same = [
        target.c[each.name] == bindparam(f"{ADDED_PREFIX}key_{i}", type_=each.type)
        for i, each in enumerate(keys)
    ]
    values: dict[Any, Any] = {target.c[name]: target.c[name] for name in kept}
    for i, name in enumerate(names):
        values[target.c[name]] = bindparam(f"{ADDED_PREFIX}value_{i}", type_=LargeBinary())
    return update(target).where(*same).values(values), target


def _count(
    connection: Connection,
    target: TableClause,
    columns: Sequence[ColumnClause[Any]],
    keys: Sequence[Key],
) -> Iterator[int]:
    """How many of the rows can be seen, for drivers that do not count what they update."""
    for start in range(0, len(keys), _ROWS_A_CHECK):
        same = (
            and_(*(each == part for each, part in zip(columns, key, strict=True)))
            for key in keys[start : start + _ROWS_A_CHECK]
        )
        yield connection.scalar(select(func.count()).select_from(target).where(or_(*same))) or 0
