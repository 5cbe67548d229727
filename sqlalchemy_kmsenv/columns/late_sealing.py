"""Sealing what was inserted before the database had said which row it became.

One UPDATE batch for all rows of a table that wrote the same columns, in the
transaction of the INSERT: right behind a Core INSERT, and at the end of a flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Table
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.cell import join_parts
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.giving_back import count_rows
from sqlalchemy_kmsenv.columns.late_updates import LateUpdate
from sqlalchemy_kmsenv.columns.ledger import LateRows, Ledger, ledger_of, open_ledger
from sqlalchemy_kmsenv.columns.marks import late_rows_of
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.spelled_otherwise import refuse_other_spellings
from sqlalchemy_kmsenv.columns.stored_rows import Key, read_stored
from sqlalchemy_kmsenv.columns.transactions import schema_of

EMPTY = Sealed(b"")
"""Stands in a cell until it is sealed: no envelope, so that reading it is an error."""


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
    if any(each is rows for each in ledger.under_way):
        keys = rows.known_keys
        if keys is None:
            keys = [tuple(key) for key in result.inserted_primary_key_rows if key is not None]
        if rows.may_skip and result.rowcount == 0:
            learn(ledger, rows, [], [])
        else:
            learn(ledger, rows, range(len(keys)), keys)
        if not ledger.flushing:
            seal_waiting(connection)
    if rows.recount:
        count_rows(result.context, rows.count)


def learn(ledger: Ledger, rows: LateRows, places: Sequence[int], keys: Sequence[Key]) -> None:
    """Note the keys of the rows that an INSERT left, which wait from now on.

    Raises:
        UnboundValueError: the database did not say them.
    """
    ledger.executed(rows)
    said = len(places) == rows.count or rows.may_skip
    if not said or any(None in key for key in keys):
        raise UnboundValueError(
            f"the database did not say which rows of {rows.table.name} were inserted, so their"
            " encrypted columns cannot be sealed; roll back, and give the primary key with each row"
        )
    rows.keep(places, keys)


def seal_waiting(connection: Connection) -> None:
    """Seal every row of this transaction that waits for it, one UPDATE batch a set of columns.

    Raises:
        UnboundValueError: a row is bound to a NULL, or cannot be updated.
        KeyServiceError: no data key could be had; the transaction cannot be committed.
    """
    ledger = ledger_of(connection)
    batches: dict[tuple[Any, ...], list[LateRows]] = {}
    for rows in ledger.waiting:
        if rows.count:
            batches.setdefault(_batch_key(connection, rows), []).append(rows)
    for inserts in batches.values():
        _seal(inserts[0].connection(connection), inserts)
    ledger.waiting = []


def seal_at_once(connection: Connection, rows: LateRows) -> list[tuple[Sealed | None, ...]]:
    """Seal the rows of one INSERT, before those that wait; the cells of each, in their order.

    Raises:
        UnboundValueError, KeyServiceError: as for ``seal_waiting``.
    """
    cells = _seal(connection, [rows]) if rows.count else []
    ledger = ledger_of(connection)
    ledger.waiting = [each for each in ledger.waiting if each is not rows]
    return cells


def seal_waiting_of(connection: Connection, written: Table) -> None:
    """Seal what waits, where rows of this table do: an UPDATE must come behind their INSERT.

    Raises:
        UnboundValueError, KeyServiceError: as for ``seal_waiting``.
    """
    ledger = open_ledger(connection)
    if ledger is not None and any(rows.table is written for rows in ledger.waiting):
        seal_waiting(connection)


def _batch_key(connection: Connection, rows: LateRows) -> tuple[Any, ...]:
    names = tuple(values.binding.column.key for values in rows.columns)
    sealed_by = id(rows.connection(connection))
    return rows.table.key, schema_of(rows.table, rows.options), names, sealed_by


def _seal(connection: Connection, inserts: Sequence[LateRows]) -> list[tuple[Sealed | None, ...]]:
    first = inserts[0]
    values: list[list[Sealed | None]] = [[] for _ in first.columns]
    for rows in inserts:
        parts = _parts(connection, rows)
        for sealed, encoded in zip(values, rows.columns, strict=True):
            bound = encoded.binding.bound_columns
            sealed.extend(encoded.seal(join_parts(parts[each.column.key] for each in bound)))
    keys = [key for rows in inserts for key in rows.keys]
    cells = list(zip(*values, strict=True))
    found = LateUpdate(first).write(connection, keys, cells)
    if found != len(keys):
        raise UnboundValueError(
            f"{len(keys)} rows of {first.table.name} were inserted and {found} of them could be"
            " updated with their sealed values. Does a trigger or a row security policy hide them?"
            " Roll back, and give the primary key with each row"
        )
    return cells


def _parts(connection: Connection, rows: LateRows) -> dict[str, list[bytes]]:
    """The parts of every bound column, from the INSERT, its keys, and the stored rows."""
    parts = dict(rows.parts)
    dialect = connection.dialect
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
                parts[name] = bound.parts(bound.as_given(of_key[name]), dialect)
            else:
                stored[name] = bound
    if stored:
        wanted = [bound.column for bound in stored.values()]
        found = read_stored(connection, key_columns, rows.keys, wanted, rows.options)
        present: list[Key] = [row for row in found if row is not None]
        if len(present) == len(found):
            refuse_other_spellings(
                connection, key_columns, rows.keys, list(stored.values()), rows.options
            )
            for bound, values in zip(stored.values(), zip(*present, strict=True), strict=True):
                parts[bound.column.key] = bound.parts(bound.as_given(values), dialect)
            return parts
        raise UnboundValueError(
            f"rows of {rows.table.name} that were just inserted cannot be read back, so their"
            f" {', '.join(stored)} is not known; roll back, and give it with each row"
        )
    return parts
