"""What an upsert says: which row it keeps, and what it does to that one.

Reads the private ``_post_values_clause`` of ``Insert`` and the attributes of its clauses,
seen on 2.0.36 and 2.1.9 (``tests/columns/test_dml.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Alias,
    Case,
    Index,
    Insert,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.functions import FunctionElement

from sqlalchemy_kmsenv.columns.binding import is_whole
from sqlalchemy_kmsenv.columns.dml import column_key, copy_of, table_of


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

    @property
    def changed(self) -> set[str]:
        """The keys of the columns that it does not set to what they hold."""
        return {key for key, value in self.sets.items() if not self.is_old(value, key)}

    def sets_new(self, key: str) -> bool:
        """Whether the column is set to what the new row would have had in it."""
        return self.is_new(self.sets[key], key)

    def is_new(self, value: Any, key: str) -> bool:
        """Whether this is what the new row would have had in a column."""
        source = getattr(value, "table", None)
        return (
            isinstance(source, Alias)
            and getattr(source.element, "key", None) == self.table_key
            and source.name in ("excluded", "inserted", "new")
            and value.key == key
        )

    def is_old(self, value: Any, key: str) -> bool:
        """Whether this is what the row that is there has in a column."""
        source = getattr(value, "table", None)
        return isinstance(source, Table) and source.key == self.table_key and value.key == key


def branches(value: Any) -> Iterator[Any]:
    """What the value of a column may come to: each part of coalesce() and result of CASE."""
    value = _clause(value)
    if isinstance(value, Grouping):
        yield from branches(value.element)
    elif _is_coalesce(value):
        for part in value.clauses:
            yield from branches(part)
    elif isinstance(value, Case):
        for _, result in value.whens:
            yield from branches(result)
        yield from branches(value.else_)
    else:
        yield value


def deciding(value: Any) -> Iterator[Any]:
    """What decides between the branches of a value: CASE's own value, or None, and conditions."""
    value = _clause(value)
    if isinstance(value, Grouping):
        yield from deciding(value.element)
    elif _is_coalesce(value):
        for part in value.clauses:
            yield from deciding(part)
    elif isinstance(value, Case):
        yield value.value
        for condition, result in value.whens:
            yield condition
            yield from deciding(result)
        yield from deciding(value.else_)


def _clause(value: Any) -> Any:
    return value.__clause_element__() if hasattr(value, "__clause_element__") else value


def _is_coalesce(value: Any) -> bool:
    if not isinstance(value, FunctionElement) or getattr(value, "packagenames", None):
        return False
    return str(getattr(value, "name", "")).lower() in ("coalesce", "ifnull")


def new_row(statement: Any) -> Mapping[str, Any]:
    """The columns of the row that an upsert would have inserted, by key."""
    new: Any = statement.excluded if hasattr(statement, "excluded") else statement.inserted
    return dict(new)


def with_sets(statement: Insert, changes: Sequence[Mapping[str, Any]]) -> Insert:
    """The upsert with other values, by column key; one mapping for each of its clauses."""
    clause: Any = statement._post_values_clause
    table = table_of(statement)
    copy = copy_of(statement)
    if hasattr(clause, "clauses"):
        several = clause._clone()
        several.clauses = [
            _with_sets(each, table, sets)
            for each, sets in zip(clause.clauses, changes, strict=True)
        ]
        copy._post_values_clause = several
    else:
        copy._post_values_clause = _with_sets(clause, table, changes[0])
    return copy


def _with_sets(clause: Any, table: Table | None, changes: Mapping[str, Any]) -> Any:
    if not changes:
        return clause
    attribute = "update_values_to_set" if hasattr(clause, "update_values_to_set") else "update"
    given = getattr(clause, attribute)
    sets = dict(given)
    names = {_set_key(table, name): name for name in sets}
    sets |= {names.get(key, key): value for key, value in changes.items()}
    copy = clause._clone()
    setattr(copy, attribute, list(sets.items()) if isinstance(given, list) else sets)
    return copy


def conflicts(statement: Insert, *, unmatched: frozenset[str] = frozenset()) -> list[Conflict]:
    """What ``ON CONFLICT`` or ``ON DUPLICATE KEY UPDATE`` does to the rows that are there.

    ``unmatched`` are the keys of columns in which a new row agrees with none that is there.
    """
    clause: Any = statement._post_values_clause
    if clause is None:
        return []
    table = table_of(statement)
    clauses = list(clause.clauses) if hasattr(clause, "clauses") else [clause]
    return [_conflict(each, table, unmatched) for each in clauses]


def _conflict(clause: Any, table: Table | None, unmatched: frozenset[str]) -> Conflict:
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
        target = _common_to_unique_keys(table, unmatched)
    # A list of pairs on SQLAlchemy 2.0.
    conditions = [
        getattr(clause, name, None)
        for name in ("update_whereclause", "inferred_target_whereclause")
    ]
    return Conflict(
        target,
        {_set_key(table, key): value for key, value in dict(sets).items()},
        None if table is None else table.key,
        [condition for condition in conditions if condition is not None],
    )


def _set_key(table: Table | None, name: Any) -> str:
    """The key of a column that is set: a string is a key, or else the name in the database."""
    key = column_key(name)
    return key if table is None or key in table.columns else _key_of_name(table, key)


def _target_key(table: Table | None, element: Any) -> str:
    """The key of a column that a conflict is on: a string is the name in the database."""
    if not isinstance(element, str):
        # SQLAlchemy 2.0 keeps attributes of a class as they are, which have names of their own.
        return str(getattr(_clause(element), "key", element))
    return element if table is None else _key_of_name(table, element)


def _key_of_name(table: Table, name: str) -> str:
    return next((str(each.key) for each in table.columns if each.name == name), name)


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


def _common_to_unique_keys(table: Table, unmatched: frozenset[str]) -> frozenset[str]:
    """What rows agree in, whichever of the unique keys MySQL finds a duplicate of."""
    keys = [
        frozenset(each.key for each in constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)) and constraint.columns
    ]
    keys += [
        frozenset(each.key for each in index.columns) if _is_over_all(index) else frozenset()
        for index in table.indexes
        if index.unique
    ]
    possible = [key for key in keys if not key & unmatched]
    return frozenset.intersection(*possible) if possible else frozenset()


def _is_over_all(index: Index) -> bool:
    """Whether rows that an index finds alike agree in its columns, not in their beginnings."""
    cut = any(index.dialect_options[name].get("length") for name in ("mysql", "mariadb"))
    return is_whole(index) and not cut
