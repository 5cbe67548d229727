"""ON CONFLICT and ON DUPLICATE KEY: which row survives must be the one that is sealed for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Table

from sqlalchemy_kmsenv.columns.batch import described
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.conflicts import Conflict, branches, conflicts, new_row, with_sets
from sqlalchemy_kmsenv.columns.dml import FromDatabase, source_of
from sqlalchemy_kmsenv.columns.insert_batch import InsertBatch
from sqlalchemy_kmsenv.columns.outputs import is_null
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.spelling import is_uuid_in_text
from sqlalchemy_kmsenv.columns.stored_rows import compares_exactly
from sqlalchemy_kmsenv.columns.upsert_values import seal_own_values


def seal_conflicts(batch: InsertBatch, bindings: Mapping[str, Binding]) -> None:
    """Let an upsert through where the surviving row has the identity and scope of the new one.

    A bound column has if the conflict is on it and its comparison is exact, or if
    the upsert sets it to the new row's value. Python values that the upsert sets are sealed.

    Raises:
        UnboundValueError: a value would be sealed for another row, or the
            upsert moves a row away from a value that it leaves.
    """
    changes: list[dict[str, Any]] = []
    for conflict in conflicts(batch.statement, unmatched=batch.unmatched()):
        upsert = _Upsert(batch, conflict, bindings)
        sets: dict[str, Any] = {}
        for key, binding in bindings.items():
            if key not in conflict.sets:
                upsert.check_left(binding)
            elif upsert.gives(binding):
                sets |= upsert.check_new(binding)
                sets |= seal_own_values(batch, conflict, binding)
        changes.append(sets)
    if any(changes):
        batch.statement = with_sets(batch.statement, changes)


class _Upsert:
    """One clause of an upsert."""

    def __init__(
        self, batch: InsertBatch, conflict: Conflict, bindings: Mapping[str, Binding]
    ) -> None:
        self._batch = batch
        self._conflict = conflict
        self._bindings = bindings

    def gives(self, binding: Binding) -> bool:
        """Whether a column may get another value than it has, and than NULL.

        Raises:
            UnboundValueError: a value that is neither the row's own nor one that can be sealed.
        """
        key = binding.column.key
        gives = False
        for branch in branches(self._conflict.sets[key]):
            if is_null(branch) or branch is None:
                continue
            if self._conflict.is_old(branch, key):
                self.check_left(binding)
            elif self._conflict.is_new(branch, key) or not _is_computed(self._batch, branch):
                gives = True
            else:
                raise UnboundValueError(
                    f"this upsert sets {described(binding.column)} to an SQL expression, whose"
                    " value is only known to the database; set it to a Python value, to the new"
                    f" row's, statement.excluded.{key} (on MySQL and MariaDB statement.inserted"
                    f".{key}), or to coalesce() or CASE of these and the column itself"
                )
        return gives

    def check_new(self, binding: Binding) -> dict[str, Any]:
        """What has to be set as well, so that the surviving row is the one that is sealed for."""
        differing = [each for each in binding.bound_columns if not self._agrees(each)]
        spelled = [each for each in differing if self._may_spell(each)]
        if len(spelled) < len(differing):
            raise UnboundValueError(self._differing(binding, differing))
        spelled += [each for each in binding.bound_columns if self._is_uuid_in_text(each)]
        new = new_row(self._batch.statement) if spelled else {}
        return {str(each.column.key): new[each.column.key] for each in spelled}

    def check_left(self, binding: Binding) -> None:
        """Let nothing change that a value is bound to which stays.

        Raises:
            UnboundValueError: the value could not be read any more.
        """
        moved = [
            described(each.column)
            for each in binding.bound_columns
            if each.column.key in self._conflict.changed and not self._is_target(each)
        ]
        if moved:
            raise UnboundValueError(
                f"this upsert changes {', '.join(moved)}, which {described(binding.column)} is"
                " bound to, and would leave that value unreadable; set every encrypted column as"
                " well, each to a new value"
            )

    def _agrees(self, bound: BoundColumn) -> bool:
        key = bound.column.key
        if key in self._conflict.changed:
            return self._conflict.sets_new(key)
        return self._is_target(bound)

    def _is_target(self, bound: BoundColumn) -> bool:
        return self._is_exact(bound) and bound.column.key in self._conflict.target

    def _is_exact(self, bound: BoundColumn) -> bool:
        return compares_exactly(bound, self._batch.connection.dialect.name)

    def _is_uuid_in_text(self, bound: BoundColumn) -> bool:
        """Whether the row may be found in capitals: spelled anew, it keeps its other values."""
        key = bound.column.key
        is_kept = key in self._conflict.target and key not in self._conflict.changed
        return is_kept and is_uuid_in_text(bound, self._batch.connection.dialect)

    def _may_spell(self, bound: BoundColumn) -> bool:
        """Whether the surviving row, found by a text, may take the new row's spelling of it."""
        return bound.column.key in self._conflict.target - self._conflict.sets.keys() and all(
            bound not in binding.bound_columns or self._is_new_alone(key)
            for key, binding in self._bindings.items()
        )

    def _is_new_alone(self, key: str) -> bool:
        return key in self._conflict.sets and not any(
            self._conflict.is_old(branch, key) for branch in branches(self._conflict.sets[key])
        )

    def _differing(self, binding: Binding, differing: Iterable[BoundColumn]) -> str:
        names = ", ".join(described(each.column) for each in differing)
        target = sorted(self._conflict.target)
        nothing = "with ON CONFLICT DO NOTHING"
        if self._batch.connection.dialect.name in ("mysql", "mariadb"):
            nothing = keeping_all(self._batch.table)
        natural = (
            f" If the row is named by {', '.join(target)}, declare it with identity={target!r}."
        )
        if set(target) == {each.column.key for each in binding.identity}:
            natural = " A text is found here whatever its case, and only the new one's is known."
        return (
            f"this upsert sets {described(binding.column)}, and the row that it keeps may have"
            f" another {names} than the one that the value is sealed for. Let the conflict be on"
            " what the value is bound to, set the named columns to the new row's as well (and"
            f" every encrypted column that is bound to them), or insert {nothing} and update by"
            f" primary key.{natural if target and binding.identity else ''}"
        )


def keeping_all(table: Table) -> str:
    """What MySQL and MariaDB have in the place of ON CONFLICT DO NOTHING."""
    key = next((str(each.key) for each in table.primary_key.columns), "key")
    return f"with on_duplicate_key_update({key}={table.name}.c.{key}), which changes nothing,"


def _is_computed(batch: InsertBatch, value: Any) -> bool:
    return isinstance(source_of(value, batch.rows), FromDatabase)
