"""What an INSERT or UPDATE says of its values, read from the statement.

Reads private attributes: ``_values``, ``_multi_values``, ``_ordered_values``, ``_generate`` and
``_annotations`` of ``Insert`` and ``Update``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_dml.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeVar, cast

from sqlalchemy import (
    BindParameter,
    Column,
    Insert,
    Table,
    TypeDecorator,
    Update,
)
from sqlalchemy.sql import ColumnElement, operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping, Null
from sqlalchemy.types import NullType

from sqlalchemy_kmsenv.columns.encrypted import Encrypted

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


S = TypeVar("S", Insert, Update)

Source = FromParameters | FromStatement | FromDatabase


@dataclass(frozen=True, slots=True)
class InlineValue:
    """A value given with ``.values(...)``; ``key`` is what it was given under."""

    key: Any
    source: Source


def table_of(statement: Insert | Update) -> Table | None:
    """The table that is written, as the MetaData knows it; None where it is not one table."""
    table = _emitted_table(statement)
    if table is None:
        table = statement.table
    if not isinstance(table, Table):
        return None
    # The ORM passes an annotated copy.
    return table.metadata.tables.get(table.key, table)


def _emitted_table(statement: Insert | Update) -> Any:
    """The table that the ORM's bulk INSERT or UPDATE writes; None for all other statements.

    The ORM executes such a statement once a table of a joined inheritance, and annotates
    each with its table; ``statement.table`` stays the subclass's, until it is compiled.
    """
    annotations = statement._annotations
    if annotations.get("dml_strategy") != "bulk":
        return None
    kind = "insert" if isinstance(statement, Insert) else "update"
    return annotations.get(f"_emit_{kind}_table")


def inline_values(statement: Insert | Update, table: Table, rows: Rows) -> dict[str, InlineValue]:
    """The values that the statement itself carries for its table, by column key."""
    columns = table.columns
    return {
        column_key(key): InlineValue(key, source_of(value, rows, columns.get(column_key(key))))
        for key, value in _pairs(statement)
        if not _is_of_another_table(table, key)
    }


def written_columns(statement: Update) -> Iterator[tuple[Table, str]]:
    """The columns that ``values()`` names as columns: each with its table, and its key."""
    bulk = _emitted_table(statement)
    for key, _ in _pairs(statement):
        if bulk is not None and _is_of_another_table(bulk, key):
            # The ORM leaves it to the statement for that table.
            continue
        table = None if isinstance(key, str) else getattr(_plain_column(key), "table", None)
        if isinstance(table, Table):
            yield table, column_key(key)


def value_expressions(statement: Insert | Update) -> Iterator[tuple[str, Any]]:
    """Every value that the statement carries, by column key; of ``values([...])`` too."""
    pairs = _pairs(statement)
    for group in getattr(statement, "_multi_values", ()):
        for row in group:
            pairs += row.items() if isinstance(row, dict) else zip(repeat(""), row, strict=False)
    for key, value in pairs:
        yield column_key(key), value


def _pairs(statement: Insert | Update) -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = list((statement._values or {}).items())
    pairs += getattr(statement, "_ordered_values", None) or ()
    return pairs


def _is_of_another_table(written: Table, key: Any) -> bool:
    """Whether ``values()`` sets it in another table, as MySQL can and the ORM's bulk does."""
    if isinstance(key, str):
        return False
    table = getattr(_plain_column(key), "table", None)
    return isinstance(table, Table) and table.key != written.key


def copy_of(statement: S) -> S:
    """The same statement once more, to be changed."""
    return statement._generate()


def with_value(statement: S, key: Any, value: Any) -> S:
    """The statement with another value under a key that ``values()`` was given, in its place."""
    ordered = getattr(statement, "_ordered_values", None)
    copy: Any = copy_of(statement)
    if ordered:
        # SQLAlchemy 2.0 keeps what ordered_values() is given as a list.
        copy._ordered_values = [
            (each, value if each is key else former) for each, former in ordered
        ]
    else:
        copy._values = copy._values.union({key: value})
    return cast("S", copy)


def inline_rows(statement: Insert, table: Table) -> list[dict[str, Any]]:
    """The rows of ``.values([...])`` by column key; an SQL expression stands as FromDatabase."""
    return [
        {
            column_key(key): _inline_value(value, table.columns.get(column_key(key)))
            for key, value in row.items()
        }
        for row in _multi_rows(statement, table)
    ]


def with_inline_rows(
    statement: Insert, table: Table, changes: Mapping[str, Sequence[Any]]
) -> Insert:
    """The statement with other values for some columns, one a row, in its ``.values([...])``."""
    rows = []
    for index, row in enumerate(_multi_rows(statement, table)):
        changed = {
            key: values[index]
            for key, values in changes.items()
            if not isinstance(values[index], FromDatabase)
        }
        kept = {key: value for key, value in row.items() if column_key(key) not in changed}
        rows.append({**kept, **{table.columns[key]: value for key, value in changed.items()}})
    copy = copy_of(statement)
    copy._multi_values = (rows,)
    return copy


def where_values(statement: Update, table: Table, rows: Rows) -> dict[str, Source]:
    """The columns of ``table`` that the top-level AND of WHERE sets equal to a value."""
    found: dict[str, Source] = {}
    for condition in _conditions(statement.whereclause):
        if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
            continue
        for column, value in ((condition.left, condition.right), (condition.right, condition.left)):
            key = _key_in(table, column)
            if key is not None and isinstance(value, BindParameter):
                found.setdefault(key, source_of(value, rows, table.columns[key]))
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


def _multi_rows(statement: Insert, table: Table) -> list[dict[Any, Any]]:
    rows = [row for group in statement._multi_values for row in group]
    return [
        row if isinstance(row, dict) else dict(zip(table.columns, row, strict=False))
        for row in rows
    ]


def _inline_value(value: Any, column: Column[Any] | None) -> Any:
    source = source_of(value, (), column)
    return source.value if isinstance(source, FromStatement) else source


def column_key(key: Any) -> str:
    """The key of a column in its table, by whatever names it in ``values()``."""
    return key if isinstance(key, str) else str(_plain_column(key).key)


def _plain_column(key: Any) -> Column[Any]:
    column: Column[Any] = key.__clause_element__()
    return column


def _changes_on_the_way(value: BindParameter[Any], column: Column[Any] | None) -> bool:
    """Whether what reaches the database may be another value than can be seen here.

    A parameter of the column's own type is what the column holds; one of another type is
    made into what its own ``TypeDecorator`` says, or left as it is where the column has one.
    """
    own = None if column is None else column.type
    if isinstance(value.type, NullType) or value.type is own:
        return False
    return any(
        isinstance(t, TypeDecorator) and not isinstance(t, Encrypted) for t in (value.type, own)
    )


def source_of(value: Any, rows: Rows, column: Column[Any] | None = None) -> Source:
    """Where a value comes from that a statement carries for a column."""
    if isinstance(value, BindParameter):
        if _changes_on_the_way(value, column):
            return FromDatabase()
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
