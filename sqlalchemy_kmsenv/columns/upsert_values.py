"""Python values that an upsert sets, sealed for the row that survives: it is the new one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, case
from sqlalchemy.sql import visitors

from sqlalchemy_kmsenv.columns.batch import described
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.conflicts import Conflict, branches, conflicts, new_row
from sqlalchemy_kmsenv.columns.dml import FromDatabase, FromParameters, FromStatement, source_of
from sqlalchemy_kmsenv.columns.insert_batch import InsertBatch
from sqlalchemy_kmsenv.columns.outputs import is_null
from sqlalchemy_kmsenv.columns.own_operators import equal
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.sealing import encode_values
from sqlalchemy_kmsenv.columns.spelling import StoredText, spelled
from sqlalchemy_kmsenv.columns.stored_rows import compares_exactly


def with_own_values(batch: InsertBatch, bindings: Mapping[str, Binding]) -> list[Binding]:
    """The encrypted columns that an upsert sets to a value which is not NULL, nor a column's."""
    return [
        binding
        for conflict in conflicts(batch.statement)
        for key, binding in bindings.items()
        if key in conflict.sets and _own_branches(batch, conflict.sets[key])
    ]


def seal_own_values(batch: InsertBatch, conflict: Conflict, binding: Binding) -> dict[str, Any]:
    """What to set a column to instead, by its key; nothing where it has no value of its own.

    Raises:
        UnboundValueError: the rows differ, and one statement cannot give each its own envelope.
    """
    key = binding.column.key
    value = conflict.sets[key]
    sealed = {id(each): _sealed(batch, binding, each) for each in _own_branches(batch, value)}
    if not sealed:
        return {}
    if id(value) in sealed:
        return {key: sealed[id(value)]}

    def replace(element: Any, **_: Any) -> Any:
        return sealed.get(id(element))

    expression: Any = visitors.replacement_traverse(value, {}, replace)
    return {key: expression}


def _own_branches(batch: InsertBatch, value: Any) -> list[Any]:
    return [
        each
        for each in branches(value)
        if not is_null(each)
        and each is not None
        and not isinstance(source_of(each, batch.rows), FromDatabase)
    ]


def _sealed(batch: InsertBatch, binding: Binding, value: Any) -> Any:
    """An expression for the envelope of ``value`` in the row that survives."""
    column = binding.column
    source = source_of(value, batch.rows)
    values = batch.values(column, source)
    if not all(batch.keeps(bound) for bound in binding.bound_columns):
        raise UnboundValueError(
            f"this upsert sets {described(column)} to a value that is sealed for the new row, and"
            " does not say which that is; give the columns that it is bound to with each row"
        )
    if isinstance(source, FromParameters):
        batch.release(source.key)
    if len(values) > 1 and _is_what_is_inserted(batch, binding, values):
        return new_row(batch.statement)[column.key]
    sealed = batch.sealed(binding, values)
    if isinstance(source, FromStatement) and (len(values) == 1 or not binding.bound_columns):
        if batch.sets_constants:
            return _constant(binding, sealed[0])
    elif batch.has_inline_rows:
        return _by_row(batch, binding, sealed)
    elif len(values) == 1 or not batch.may_join_rows:
        return batch.parameter(f"set_{column.key}", column, sealed)
    raise UnboundValueError(
        f"this upsert of several rows sets {described(column)} to a value that differs from the one"
        " that it inserts, and they may be sent as one statement, which has place for one; set it"
        f" to the new row's, statement.excluded.{column.key} (on MySQL and MariaDB"
        f" statement.inserted.{column.key}), or execute it row by row"
    )


def _constant(binding: Binding, envelope: Sealed | None) -> BindParameter[Any]:
    return bindparam(None, envelope, type_=binding.column.type)


def _is_what_is_inserted(batch: InsertBatch, binding: Binding, values: Sequence[Any]) -> bool:
    source = batch.source(binding.column)
    if source is None or isinstance(source, FromDatabase):
        return False
    dialect = batch.connection.dialect
    new = encode_values(binding, batch.values(binding.column, source), dialect)
    return new == encode_values(binding, values, dialect)


def _by_row(batch: InsertBatch, binding: Binding, envelopes: Sequence[Sealed | None]) -> Any:
    """Each row's envelope, told apart by what the value is bound to."""
    new = new_row(batch.statement)
    named: list[list[Any]] = [[] for _ in envelopes]
    dialect = batch.connection.dialect
    for bound in binding.bound_columns:
        column, values = new[bound.column.key], batch.known_values(bound.column)
        if not compares_exactly(bound, dialect.name):
            column = StoredText(column)
            values = [spelled(text) for text in bound.stored_values(values, dialect)]
        for conditions, value in zip(named, values, strict=True):
            conditions.append(equal(column, value, dialect))
    cells = [_constant(binding, envelope) for envelope in envelopes]
    return case(*zip(map(and_, *zip(*named, strict=True)), cells, strict=True))
