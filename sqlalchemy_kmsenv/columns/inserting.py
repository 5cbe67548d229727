"""INSERT: every row's identity must be known before the database sees it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Insert, Table

from sqlalchemy_kmsenv.columns.batch import Batch, all_null, described
from sqlalchemy_kmsenv.columns.binding import Binding, BoundColumn
from sqlalchemy_kmsenv.columns.client_defaults import evaluate, insert_default
from sqlalchemy_kmsenv.columns.dml import (
    Row,
    Rows,
    conflict_columns,
    has_many_inline_rows,
    select_names,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError


def seal_insert(
    connection: Connection,
    statement: Insert,
    table: Table,
    bindings: Mapping[str, Binding],
    rows: Rows,
) -> tuple[Insert, list[Row]]:
    """The INSERT with envelopes in the place of plaintext.

    Raises:
        UnboundValueError: a shape of statement that names no row.
    """
    _refuse_shapes(statement, table, bindings)
    if select_names(statement):
        return statement, list(rows)
    batch = Batch(connection, statement, table, rows)
    for binding in bindings.values():
        source = batch.source(binding.column)
        default = insert_default(binding.column)
        if source is not None:
            values = batch.values(binding.column, source)
        elif default is not None:
            values = evaluate(default, connection, batch.rows)
        else:
            continue
        if all_null(values):
            continue
        for bound in binding.bound_columns:
            _keep(batch, bound, binding)
        batch.seal(binding, source, values)
    return batch.result()


def _keep(batch: Batch[Insert], bound: BoundColumn, binding: Binding) -> None:
    if batch.keeps(bound):
        return
    column = bound.column
    source = batch.source(column)
    if source is not None:
        values = batch.values(column, source)
    else:
        default = insert_default(column)
        if default is None:
            raise UnboundValueError(_not_known(bound, binding))
        values = evaluate(default, batch.connection, batch.rows)
        batch.add(column.key, values)
    if None in values:
        raise UnboundValueError(_not_known(bound, binding))
    batch.keep(bound, values)


def _not_known(bound: BoundColumn, binding: Binding) -> str:
    name = described(bound.column)
    return (
        f"{described(binding.column)} is bound to {name}, which this INSERT does not give (the"
        " server would generate it). Give it a client-side default, such as default=uuid.uuid4 on a"
        f" Uuid key, or pass {bound.column.key} with each row"
    )


def _refuse_shapes(statement: Insert, table: Table, bindings: Mapping[str, Binding]) -> None:
    copied = bindings.keys() & set(select_names(statement))
    if copied:
        raise UnboundValueError(
            f"INSERT ... SELECT into {_names(table, copied)} would copy values to rows they are"
            " not sealed for; read them, and insert them with a list of parameters"
        )
    if has_many_inline_rows(statement):
        raise UnboundValueError(
            f"insert({table.name}).values([...]) with encrypted columns is not supported; execute"
            f" insert({table.name}) with the list as its parameters"
        )
    conflict = conflict_columns(statement)
    if conflict is None:
        return
    touched = conflict & (
        bindings.keys()
        | {bound.column.key for binding in bindings.values() for bound in binding.bound_columns}
    )
    if touched:
        raise UnboundValueError(
            f"ON CONFLICT or ON DUPLICATE KEY that sets {_names(table, touched)} may keep a row"
            " that the value is not sealed for; insert with ON CONFLICT DO NOTHING, then update by"
            " primary key"
        )


def _names(table: Table, keys: set[str]) -> str:
    return ", ".join(f"{table.name}.{key}" for key in sorted(keys))
