"""What an upsert says: which row it keeps, and what it does to that one.

Reads the private ``_post_values_clause`` of ``Insert`` and the attributes of its clauses,
seen on 2.0.36 and 2.1.9 (``tests/columns/test_dml.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Alias, BindParameter, Insert, Table, UniqueConstraint
from sqlalchemy.sql.elements import Null

from sqlalchemy_kmsenv.columns.dml import column_key, table_of


@dataclass(frozen=True, slots=True)
class Conflict:
    """What an upsert does to a row that is there already."""

    target: frozenset[str]
    """The keys of the columns that the two rows agree in; empty where that is not known."""
    sets: Mapping[str, Any]
    """What it sets, by column key; empty for DO NOTHING."""
    table_key: str | None = None
    """The table's key in its MetaData."""
    conditions: Sequence[Any] = ()
    """What it asks of a row before it is updated, and of the index that decides."""

    def sets_new(self, key: str) -> bool:
        """Whether the column is set to what the new row would have had in it."""
        value = self.sets[key]
        source = getattr(value, "table", None)
        return (
            isinstance(source, Alias)
            and getattr(source.element, "key", None) == self.table_key
            and source.name in ("excluded", "inserted", "new")
            and value.key == key
        )

    def sets_null(self, key: str) -> bool:
        """Whether the column is set to NULL."""
        value = self.sets[key]
        if isinstance(value, BindParameter):
            return not value.required and value.effective_value is None
        return value is None or isinstance(value, Null)


def conflicts(statement: Insert) -> list[Conflict]:
    """What ``ON CONFLICT`` or ``ON DUPLICATE KEY UPDATE`` does to the rows that are there."""
    clause: Any = statement._post_values_clause
    if clause is None:
        return []
    table = table_of(statement)
    clauses = list(clause.clauses) if hasattr(clause, "clauses") else [clause]
    return [_conflict(each, table) for each in clauses]


def _conflict(clause: Any, table: Table | None) -> Conflict:
    sets: Any = getattr(clause, "update_values_to_set", None)
    if sets is None:
        sets = getattr(clause, "update", None) or {}
    elements = getattr(clause, "inferred_target_elements", None)
    if elements is not None:
        target = frozenset(_target_key(table, element) for element in elements)
    elif table is None:
        target = frozenset()
    elif hasattr(clause, "constraint_target"):
        target = _constraint_columns(table, clause.constraint_target)
    else:
        target = _only_unique_key(table)
    # A list of pairs on SQLAlchemy 2.0.
    conditions = [
        getattr(clause, name, None)
        for name in ("update_whereclause", "inferred_target_whereclause")
    ]
    return Conflict(
        target,
        {_target_key(table, column_key(key)): value for key, value in dict(sets).items()},
        None if table is None else table.key,
        [condition for condition in conditions if condition is not None],
    )


def _target_key(table: Table | None, element: Any) -> str:
    if not isinstance(element, str):
        return str(getattr(element, "key", element))
    # A string may be the name in the database, not the key in the MetaData.
    if table is None or element in table.columns:
        return element
    return next((str(each.key) for each in table.columns if each.name == element), element)


def _constraint_columns(table: Table, name: Any) -> frozenset[str]:
    if name is None:
        return frozenset()
    names = {name, str(name)}
    primary = table.primary_key
    # PostgreSQL's own name for a primary key that has none.
    if name is primary or (primary.name or f"{table.name}_pkey") in names:
        return frozenset(each.key for each in primary.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name in names:
            return frozenset(each.key for each in constraint.columns)
    return frozenset()


def _only_unique_key(table: Table) -> frozenset[str]:
    """The primary key, where no other key could be the one that MySQL finds a duplicate of."""
    others = any(isinstance(each, UniqueConstraint) for each in table.constraints)
    if others or any(index.unique for index in table.indexes):
        return frozenset()
    return frozenset(each.key for each in table.primary_key.columns)
