"""ON CONFLICT and ON DUPLICATE KEY: which row survives must be the one that is sealed for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy_kmsenv.columns.batch import described
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.conflicts import Conflict, conflicts
from sqlalchemy_kmsenv.columns.insert_batch import InsertBatch
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.stored_rows import compares_exactly


def refuse_conflicts(batch: InsertBatch, bindings: Mapping[str, Binding]) -> None:
    """Let an upsert through where the surviving row has the identity and scope of the new one.

    A bound column has if the conflict is on it and its comparison is exact, or if
    the upsert sets it to the new row's value.

    Raises:
        UnboundValueError: the value would be sealed for another row, or the
            upsert moves a row away from a value that it leaves.
    """
    for conflict in conflicts(batch.statement):
        for key, binding in bindings.items():
            if key in conflict.sets:
                _check_set(batch, conflict, binding)
            else:
                _check_left(batch, conflict, binding)


def _check_set(batch: InsertBatch, conflict: Conflict, binding: Binding) -> None:
    key = binding.column.key
    if conflict.sets_null(key):
        return
    name = described(binding.column)
    if not conflict.sets_new(key):
        raise UnboundValueError(
            f"this upsert sets {name} to a value of its own, which is sealed for no row; set it to"
            f" the new row's, statement.excluded.{key} (on MySQL and MariaDB statement.inserted"
            f".{key})"
        )
    differing = [each for each in binding.bound_columns if not _agrees(batch, conflict, each)]
    if differing:
        names = ", ".join(described(each.column) for each in differing)
        raise UnboundValueError(
            f"this upsert sets {name}, and the row that it keeps may have another"
            f" {names} than the one that the value is sealed for. Let the conflict be on the"
            " primary key, set the named columns to the new row's as well, or insert with ON"
            " CONFLICT DO NOTHING and update by primary key"
        )


def _check_left(batch: InsertBatch, conflict: Conflict, binding: Binding) -> None:
    moved = [
        described(each.column)
        for each in binding.bound_columns
        if each.column.key in conflict.sets and not _is_target(batch, conflict, each)
    ]
    if moved:
        raise UnboundValueError(
            f"this upsert changes {', '.join(moved)}, which {described(binding.column)} is bound"
            " to, and would leave that value unreadable; set every encrypted column as well"
        )


def _agrees(batch: InsertBatch, conflict: Conflict, bound: BoundColumn) -> bool:
    key = bound.column.key
    if key in conflict.sets:
        return conflict.sets_new(key)
    return _is_target(batch, conflict, bound)


def _is_target(batch: InsertBatch, conflict: Conflict, bound: BoundColumn) -> bool:
    exact = compares_exactly(bound, batch.connection.dialect.name)
    return exact and bound.column.key in conflict.target
