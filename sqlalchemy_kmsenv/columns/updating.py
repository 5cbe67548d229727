"""UPDATE: the identity comes from WHERE, what it leaves open from the object or the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Update, bindparam, literal
from sqlalchemy.sql.functions import FunctionElement

from sqlalchemy_kmsenv.columns.batch import ADDED_PREFIX, Batch, all_null, described
from sqlalchemy_kmsenv.columns.binding import Binding, unique_keys
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.dml import (
    FromDatabase,
    Row,
    Rows,
    Source,
    where_values,
)
from sqlalchemy_kmsenv.columns.handover import handed_over
from sqlalchemy_kmsenv.columns.late_sealing import seal_waiting_of
from sqlalchemy_kmsenv.columns.marks import marked
from sqlalchemy_kmsenv.columns.own_operators import equal
from sqlalchemy_kmsenv.columns.plan import concerned
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.spelled_otherwise import (
    may_be_spelled_otherwise,
    refuse_other_spellings,
)
from sqlalchemy_kmsenv.columns.spelling import StoredText, StoredUuid, is_uuid_in_text, spelled
from sqlalchemy_kmsenv.columns.stored_rows import compares_exactly, read_stored
from sqlalchemy_kmsenv.columns.transactions import Options, counts_rows


def seal_update(
    connection: Connection,
    statement: Update,
    table: Table,
    bindings: Mapping[str, Binding],
    rows: Rows,
    *,
    options: Options,
) -> tuple[Update, list[Row]]:
    """The UPDATE with envelopes in the place of plaintext.

    Raises:
        UnboundValueError: its WHERE names no single row, or it moves a row away
            from values that it does not seal again.
    """
    batch = Batch(connection, statement, table, rows, options)
    batch.complete()
    written = batch.written_keys()
    _refuse_left_behind(bindings, written)
    if written & concerned(bindings):
        seal_waiting_of(connection, table)
    update = _Update(batch, written)
    for key, binding in bindings.items():
        source = batch.source(binding.column) if key in written else None
        if source is None:
            continue
        values = batch.values(binding.column, source)
        if all_null(values):
            continue
        if update.find(binding):
            batch.seal(binding, source, update.none_if_absent(values))
        else:
            batch.put(binding, source, [None] * len(values), values)
    update.guard()
    sealed, sealed_rows = batch.result()
    return marked(sealed, None, batch.given, batch.defaulted), sealed_rows


class _Update:
    """What one UPDATE knows of its rows, and where that came from."""

    def __init__(self, batch: Batch[Update], written: set[str]) -> None:
        self._batch = batch
        self._written = written
        self._where = where_values(batch.statement, batch.table, batch.rows)
        self._absent: set[int] = set()
        self._guards: dict[str, tuple[BoundColumn, Sequence[Any]]] = {}

    def find(self, binding: Binding) -> bool:
        """Make every bound column of ``binding`` known, by one query at the most.

        False where none of the rows is in the table, so that nothing can be sealed.
        """
        missing = []
        for bound in binding.bound_columns:
            if self._batch.keeps(bound):
                continue
            source = self._source(bound)
            if source is None or not self._is_exact(bound):
                missing.append(bound)
            else:
                values = self._not_null(bound, self._batch.values(bound.column, source))
                self._batch.keep(bound, values)
                if bound.column.key not in self._written and self._is_uuid_in_text(bound):
                    self._guards[bound.column.key] = (bound, values)
        if missing:
            self._find_elsewhere(binding, missing)
        return len(self._absent) < len(self._batch.rows)

    def none_if_absent(self, values: Sequence[Any]) -> Sequence[Any]:
        """No value for the rows that are not in the table: the guard keeps them unwritten."""
        if not self._absent:
            return values
        return [None if i in self._absent else value for i, value in enumerate(values)]

    def guard(self) -> None:
        """Let the UPDATE hit a row only if it still is the one that was sealed for."""
        batch = self._batch
        dialect = batch.connection.dialect
        for key, (bound, values) in self._guards.items():
            name = f"{ADDED_PREFIX}was_{key}"
            if self._is_exact_guard(bound):
                own = bindparam(name, type_=bound.column.type)
                batch.statement = batch.statement.where(equal(bound.column, own, dialect))
                batch.add(name, values)
                continue
            stored = bound.stored_values(values, dialect)
            text: FunctionElement[str] = StoredText(bound.column)
            if self._is_uuid_in_text(bound):
                text, stored = StoredUuid(bound.column), [each.hex for each in stored]
            same = equal(text, bindparam(name, type_=String()), dialect)
            batch.statement = batch.statement.where(same)
            batch.add(name, list(map(spelled, stored)))
        if self._absent:
            name = f"{ADDED_PREFIX}is_there"
            parameter = bindparam(name, type_=Integer())
            batch.statement = batch.statement.where(equal(literal(1), parameter, dialect))
            batch.add(name, [int(i not in self._absent) for i in range(len(batch.rows))])

    def _source(self, bound: BoundColumn) -> Source | None:
        if bound.column.key in self._written:
            return self._batch.source(bound.column)
        source = self._where.get(bound.column.key)
        return None if isinstance(source, FromDatabase) else source

    def _is_exact(self, bound: BoundColumn) -> bool:
        # What is SET is stored as it is given; what WHERE compares may be another spelling.
        if bound.column.key in self._written:
            return True
        return self._compares_exactly(bound)

    def _compares_exactly(self, bound: BoundColumn) -> bool:
        return compares_exactly(bound, self._batch.connection.dialect.name)

    def _is_exact_guard(self, bound: BoundColumn) -> bool:
        return self._compares_exactly(bound) and not self._is_uuid_in_text(bound)

    def _is_uuid_in_text(self, bound: BoundColumn) -> bool:
        return is_uuid_in_text(bound, self._batch.connection.dialect)

    def _find_elsewhere(self, binding: Binding, missing: Sequence[BoundColumn]) -> None:
        batch = self._batch
        key_columns = self._key_columns(binding, missing)
        keys = list(zip(*map(self._named, key_columns), strict=True))
        wanted = [bound.column for bound in missing]
        found = None
        dialect = batch.connection.dialect
        if counts_rows(dialect, len(keys)) and not may_be_spelled_otherwise(missing, dialect):
            # Should an object be out of date, the guard hits no row and the flush says so.
            found = handed_over(batch.connection, key_columns, keys, wanted)
        if found is None:
            found = read_stored(batch.connection, key_columns, keys, wanted, batch.options)
            refuse_other_spellings(batch.connection, key_columns, keys, missing, batch.options)
        self._absent.update(i for i, row in enumerate(found) if row is None)
        present = next((row for row in found if row is not None), None)
        if present is None:
            return
        for position, bound in enumerate(missing):
            # Rows that are not there borrow values: nothing is sealed for them.
            values = bound.as_given([(present if row is None else row)[position] for row in found])
            batch.keep(bound, values)
            if bound.column not in set(key_columns) or not self._compares_exactly(bound):
                self._guards[bound.column.key] = (bound, values)

    def _key_columns(self, binding: Binding, missing: Sequence[BoundColumn]) -> list[Column[Any]]:
        """The columns of WHERE that name one row: a unique key, or the identity."""
        candidates = [*unique_keys(self._batch.table), [each.column for each in binding.identity]]
        for columns in candidates:
            sources = [self._where.get(column.key) for column in columns]
            if columns and not any(s is None or isinstance(s, FromDatabase) for s in sources):
                return columns
        raise UnboundValueError(_names_no_row(binding, missing))

    def _named(self, column: Column[Any]) -> list[Any]:
        values = self._batch.values(column, self._where[column.key])
        # Found rows are told apart by their keys.
        return [
            bytes(each) if isinstance(each, bytearray | memoryview) else each for each in values
        ]

    def _not_null(self, bound: BoundColumn, values: list[Any]) -> list[Any]:
        if None in values:
            raise UnboundValueError(
                f"{described(bound.column)} is None in this UPDATE; an encrypted value cannot be"
                " bound to NULL"
            )
        return values


def _refuse_left_behind(bindings: Mapping[str, Binding], written: set[str]) -> None:
    for key, binding in bindings.items():
        moved = written & {bound.column.key for bound in binding.bound_columns}
        if moved and key not in written:
            raise UnboundValueError(
                f"this UPDATE changes {', '.join(sorted(moved))}, which {described(binding.column)}"
                " is bound to, and would leave that value unreadable; set every encrypted column"
                f" of {binding.column.table.name} in the same statement"
            )


def _names_no_row(binding: Binding, missing: Sequence[BoundColumn]) -> str:
    names = ", ".join(described(bound.column) for bound in missing)
    return (
        f"{described(binding.column)} is bound to {names}, which this UPDATE does not name. Add"
        " WHERE with the primary key, or another unique key, equal to a value, or use"
        " session.execute(update(Model), [{...}]) with the keys of the rows; a column of a table"
        ' that is written many rows at once takes bind="column"'
    )
