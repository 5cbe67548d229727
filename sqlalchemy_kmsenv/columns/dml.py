"""What an INSERT or UPDATE says of its values, read from the statement.

The only module that reads private attributes of SQLAlchemy: ``_values``,
``_multi_values``, ``_ordered_values``, ``_select_names`` and
``_post_values_clause`` of ``Insert`` and ``Update``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_dml.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Column, Insert, Table, Update
from sqlalchemy.sql import ColumnElement, operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping, Null

Row = Mapping[str, Any]
Rows = Sequence[Row]


@dataclass(frozen=True, slots=True)
class FromParameters:
    """Each row's own value, under this key of its parameter set."""

    key: str


@dataclass(frozen=True, slots=True)
class FromStatement:
    """One value for all rows, written into the statement."""

    value: Any


@dataclass(frozen=True, slots=True)
class FromDatabase:
    """An SQL expression, whose value only the database knows."""


Source = FromParameters | FromStatement | FromDatabase


@dataclass(frozen=True, slots=True)
class InlineValue:
    """A value given with ``.values(...)``; ``key`` is what it was given under."""

    key: Any
    source: Source


def table_of(statement: Insert | Update) -> Table | None:
    """The table that is written, as the MetaData knows it; None where it is not one table."""
    table = statement.table
    if not isinstance(table, Table):
        return None
    # The ORM passes an annotated copy.
    return table.metadata.tables.get(table.key, table)


def inline_values(statement: Insert | Update, rows: Rows) -> dict[str, InlineValue]:
    """The values that the statement itself carries, by column key."""
    pairs: list[tuple[Any, Any]] = list((statement._values or {}).items())
    pairs += getattr(statement, "_ordered_values", None) or ()
    return {_column_key(key): InlineValue(key, _source(value, rows)) for key, value in pairs}


def has_ordered_values(statement: Insert | Update) -> bool:
    """Whether SQLAlchemy 2.0 keeps the values as a list, which cannot be replaced in part."""
    return bool(getattr(statement, "_ordered_values", None))


def has_many_inline_rows(statement: Insert | Update) -> bool:
    """Whether several rows were given with ``.values([...])``."""
    return bool(statement._multi_values)


def select_names(statement: Insert) -> Sequence[str]:
    """The columns that ``from_select`` fills."""
    return statement._select_names or ()


def conflict_columns(statement: Insert) -> set[str] | None:
    """The keys of the columns that ``ON CONFLICT`` or ``ON DUPLICATE KEY`` sets; None for none."""
    clause = statement._post_values_clause
    if clause is None:
        return None
    sets: Any = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None)
    if sets is None:
        return set()
    pairs = sets.items() if isinstance(sets, Mapping) else sets
    return {_column_key(key) for key, _ in pairs}


def where_values(statement: Update, table: Table, rows: Rows) -> dict[str, Source]:
    """The columns of ``table`` that the top-level AND of WHERE sets equal to a value."""
    found: dict[str, Source] = {}
    for condition in _conditions(statement.whereclause):
        if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
            continue
        for column, value in ((condition.left, condition.right), (condition.right, condition.left)):
            key = _key_in(table, column)
            if key is not None and isinstance(value, BindParameter):
                found.setdefault(key, _source(value, rows))
    return found


def values_of(source: FromParameters | FromStatement, rows: Rows) -> list[Any]:
    """One value a row.

    Raises:
        KeyError: a parameter set lacks the key that the first one has.
    """
    if isinstance(source, FromStatement):
        return [source.value] * len(rows)
    key = source.key
    return [row[key] for row in rows]


def _conditions(clause: Any) -> Iterator[Any]:
    if isinstance(clause, Grouping):
        yield from _conditions(clause.element)
    elif isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _conditions(part)
    elif clause is not None:
        yield clause


def _key_in(table: Table, column: Any) -> str | None:
    if not isinstance(column, ColumnElement):
        return None
    # The ORM's annotated columns hash like the column that they stand for.
    for own in table.columns:
        if hash(own) == hash(column):
            return str(own.key)
    return None


def _column_key(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain_column(key).key)


def _plain_column(key: Any) -> Column[Any]:
    clause = key.__clause_element__() if hasattr(key, "__clause_element__") else key
    column: Column[Any] = clause
    return column


def _source(value: Any, rows: Rows) -> Source:
    if isinstance(value, BindParameter):
        if rows and value.key in rows[0]:
            return FromParameters(value.key)
        return FromDatabase() if value.required else FromStatement(value.effective_value)
    if isinstance(value, Null):
        return FromStatement(None)
    return (
        FromDatabase()
        if hasattr(value, "__clause_element__") or isinstance(value, ColumnElement)
        else FromStatement(value)
    )
