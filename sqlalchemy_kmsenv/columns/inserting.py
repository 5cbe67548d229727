"""INSERT: every row's identity must be known before the database sees it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Insert, Table

from sqlalchemy_kmsenv.columns.batch import all_null, described
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.client_defaults import insert_default
from sqlalchemy_kmsenv.columns.dml import FromDatabase, Row, Rows, Source
from sqlalchemy_kmsenv.columns.generated_keys import take_ahead
from sqlalchemy_kmsenv.columns.insert_batch import InsertBatch
from sqlalchemy_kmsenv.columns.insert_clauses import copies_its_table, nests_insert, select_names
from sqlalchemy_kmsenv.columns.late_sealing import EMPTY
from sqlalchemy_kmsenv.columns.ledger import LateRows, ledger_of
from sqlalchemy_kmsenv.columns.marks import marked
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealing import encode_values
from sqlalchemy_kmsenv.columns.transactions import Options, open_savepoints
from sqlalchemy_kmsenv.columns.unknown_rows import why_rows_stay_unknown
from sqlalchemy_kmsenv.columns.upsert_values import with_own_values
from sqlalchemy_kmsenv.columns.upserts import keeping_all, seal_conflicts


def seal_insert(
    connection: Connection,
    statement: Insert,
    table: Table,
    bindings: Mapping[str, Binding],
    rows: Rows,
    *,
    options: Options,
) -> tuple[Insert, list[Row]]:
    """The INSERT with envelopes in the place of plaintext.

    Raises:
        UnboundValueError: a shape of statement that names no row.
    """
    copied = bindings.keys() & set(select_names(statement))
    if copied and not copies_its_table(statement, table, copied):
        raise UnboundValueError(
            f"INSERT ... SELECT into {_names(table, copied)} would copy values to rows they are"
            " not sealed for; read them, and insert them with a list of parameters"
        )
    batch = InsertBatch(connection, statement, table, rows, options)
    if select_names(statement):
        _refuse_defaults(statement, bindings)
        seal_conflicts(batch, bindings)
        return marked(statement), list(rows)
    batch.complete()
    writes = list(_writes(batch, bindings))
    sealed_now = [*(binding for binding, _, _ in writes), *with_own_values(batch, bindings)]
    unknown = _unknown(batch, sealed_now)
    for key, bound in list(unknown.items()):
        if nests_insert(statement):
            # SQLAlchemy would give a parameter of that name to the INSERT in the CTE as well.
            break
        taken = take_ahead(connection, bound.column, len(batch.rows), options)
        if taken is not None:
            batch.add(key, taken)
            batch.keep(bound, taken)
            batch.tell_as_if_generated(key)
            del unknown[key]
    seal_conflicts(batch, bindings)
    late, known = _split(writes, unknown)
    _refuse_ignore(batch, known)
    for binding, source, values in known:
        batch.seal(binding, source, values)
    left = _leave_for_later(batch, late, unknown) if late else None
    sealed, sealed_rows = batch.result()
    marks = marked(
        sealed,
        left,
        batch.given,
        batch.defaulted,
        hides_keys=batch.hides_keys,
        drops_rows=batch.drops_rows,
    )
    return marks, sealed_rows


_Write = tuple[Binding, Source, Sequence[Any]]


def _split(
    writes: Sequence[_Write], unknown: Mapping[str, BoundColumn]
) -> tuple[list[_Write], list[_Write]]:
    """Those that are bound to what only the database will know, and the others."""
    late: list[_Write] = []
    known: list[_Write] = []
    for write in writes:
        binding, _, _ = write
        needs = any(bound.column.key in unknown for bound in binding.bound_columns)
        (late if needs else known).append(write)
    return late, known


def _writes(batch: InsertBatch, bindings: Mapping[str, Binding]) -> Iterator[_Write]:
    """The encrypted columns that get more than NULL, each with where its values come from."""
    for binding in bindings.values():
        source = batch.source(binding.column)
        if source is None:
            continue
        values = batch.values(binding.column, source)
        if not all_null(values):
            yield binding, source, values


def _unknown(batch: InsertBatch, bindings: Sequence[Binding]) -> dict[str, BoundColumn]:
    """The bound columns whose values only the database will know; it keeps all others.

    Raises:
        UnboundValueError: one that nobody gives, or that some rows give and others do not.
    """
    unknown: dict[str, BoundColumn] = {}
    for binding in bindings:
        for bound in binding.bound_columns:
            if batch.keeps(bound) or bound.column.key in unknown:
                continue
            values = _given(batch, bound.column)
            if values is not None and None not in values:
                _refuse_zero(batch, bound.column, values)
                batch.keep(bound, values)
            elif _server_makes(bound.column) and (values is None or all_null(values)):
                unknown[bound.column.key] = bound
                batch.drop(bound.column.key)
            else:
                raise UnboundValueError(_not_known(bound, binding))
    return unknown


def _given(batch: InsertBatch, column: Column[Any]) -> Sequence[Any] | None:
    source = batch.source(column)
    return None if source is None else batch.values(column, source)


def _refuse_zero(batch: InsertBatch, column: Column[Any], values: Sequence[Any]) -> None:
    generated = column is column.table.autoincrement_column
    if generated and batch.connection.dialect.name in ("mysql", "mariadb") and 0 in values:
        raise UnboundValueError(
            f"{described(column)} is given as 0, for which MySQL and MariaDB generate another key;"
            " leave it out, or declare the column with autoincrement=False"
        )


def _refuse_defaults(statement: Insert, bindings: Mapping[str, Binding]) -> None:
    if not statement.include_insert_from_select_defaults:
        return
    for binding in bindings.values():
        if insert_default(binding.column) is not None:
            raise UnboundValueError(
                f"INSERT ... SELECT would fill {described(binding.column)} with its default, which"
                " is sealed for no row; use from_select(..., include_defaults=False)"
            )


def _refuse_ignore(batch: InsertBatch, writes: Sequence[_Write]) -> None:
    if writes and batch.connection.dialect.name in ("mysql", "mariadb") and batch.ignores():
        raise UnboundValueError(
            f"INSERT IGNORE into {batch.table.name}: MySQL and MariaDB would change a key that is"
            " out of range instead of refusing it, and a value is sealed for the key as given."
            f" Insert {keeping_all(batch.table)} instead"
        )


def _server_makes(column: Column[Any]) -> bool:
    return (
        column is column.table.autoincrement_column
        or column.server_default is not None
        or (column.default is not None and insert_default(column) is None)
    )


def _leave_for_later(
    batch: InsertBatch, writes: Sequence[_Write], unknown: Mapping[str, BoundColumn]
) -> LateRows:
    """Insert empty cells, and have them sealed once the database has said the keys."""
    names = ", ".join(described(bound.column) for bound in unknown.values())
    of_the_key = all(bound.column.primary_key for bound in unknown.values())
    refused = why_rows_stay_unknown(batch, "the key" if of_the_key else names)
    if refused is not None:
        binding = writes[0][0]
        raise UnboundValueError(
            f"{described(binding.column)} is bound to {names}, which the database makes, and"
            f" {refused}"
        )
    for column in batch.table.primary_key.columns:
        if isinstance(batch.source(column), FromDatabase):
            continue
        given = _given(batch, column)
        if given is not None and _server_makes(column) and all_null(given):
            batch.drop(column.key)
        _refuse_zero(batch, column, given or ())
    columns = []
    for binding, source, values in writes:
        columns.append(encode_values(binding, values, batch.connection.dialect))
        empty = [None if value is None else EMPTY for value in values]
        batch.put(binding, source, empty, values)
    rows = LateRows(
        batch.table,
        len(batch.rows),
        columns,
        # IGNORE lets the database change what it is given: it is read back.
        {} if batch.ignores() else batch.known_parts(),
        batch.options,
        weakref.ref(batch.connection),
        savepoints=open_savepoints(batch.connection),
        may_skip=batch.may_skip,
        recount=not batch.return_keys(),
        known_keys=batch.known_keys(),
        leaves_key=batch.leaves_key(),
    )
    ledger_of(batch.connection).expect(rows)
    return rows


def _not_known(bound: BoundColumn, binding: Binding) -> str:
    key = bound.column.key
    return (
        f"{described(binding.column)} is bound to {described(bound.column)}, which this INSERT does"
        f" not give with every row. Pass {key} with each, or give the column a default, such as"
        " default=uuid.uuid4 on a Uuid key"
    )


def _names(table: Table, keys: set[str]) -> str:
    return ", ".join(f"{table.name}.{key}" for key in sorted(keys))
