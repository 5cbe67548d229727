"""What in the definition of a table reads an encrypted column: keys, indexes, CHECK, computed.

Reads the private ``_render_exprs`` of PostgreSQL's ``ExcludeConstraint``, which alone has what is
no column; seen on 2.0.36 and 2.1.9 (``tests/columns/test_schema_uses.py`` holds it to that).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import CheckConstraint, Column, Table, TextClause, UniqueConstraint
from sqlalchemy.schema import Constraint
from sqlalchemy.sql import ClauseElement, operators
from sqlalchemy.sql.elements import BinaryExpression, ColumnClause, Null
from sqlalchemy.sql.schema import ColumnCollectionConstraint

from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.columns.sealed_check import is_sealed_check
from sqlalchemy_kmsenv.errors import ConfigurationError

_STRING = re.compile(r"'(?:[^']|'')*'")
_OF_ENVELOPES = "it would see envelopes, no two of which are alike, in place of values"
_NULLS_WORK = "IS NULL and IS NOT NULL alone work. Check values in the application"


def refuse_uses_of_envelopes(table: Table) -> None:
    """Refuse what the database would work out from an encrypted column: it sees envelopes.

    Raises:
        ConfigurationError: an index or a unique key over it, a CHECK, a computed column, a partial
            index or a partition that reads it.
    """
    encrypted = [binding.column for binding in encrypted_columns(table).values()]
    if not encrypted:
        return
    for what, way_out, expressions in _uses(table):
        for column in encrypted:
            if any(_reads(expression, column) for expression in expressions):
                raise ConfigurationError(
                    f"{table.name}.{column.name} is encrypted, and {what} reads it:"
                    f" {_OF_ENVELOPES}. {way_out}"
                )


def _uses(table: Table) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """What reads columns, what to do instead, and the expressions that it reads."""
    constraints = [*table.constraints, *(each for c in table.columns for each in c.constraints)]
    for constraint in constraints:
        yield from _uses_of_constraint(constraint)
    for index in table.indexes:
        what = f"the unique index {index.name}" if index.unique else f"the index {index.name}"
        conditions = [options.get("where") for options in index.dialect_options.values()]
        yield what, "It has no effect: take it out", [*index.expressions, *conditions]
    for column in table.columns:
        if column.computed is not None:
            what = f"the computed column {column.name}"
            yield what, "Compute it in the application", [column.computed.sqltext]
    for option, value in table.dialect_kwargs.items():
        if option.endswith("_partition_by"):
            yield option, "Partition by another column", [value]


def _uses_of_constraint(constraint: Constraint) -> Iterator[tuple[str, str, Sequence[Any]]]:
    name = str(constraint.name or "")
    if isinstance(constraint, CheckConstraint):
        if not is_sealed_check(constraint):
            yield f"the CHECK constraint {name}".rstrip(), _NULLS_WORK, [constraint.sqltext]
    elif isinstance(constraint, UniqueConstraint):
        way_out = "It has no effect: take it out"
        yield f"the unique constraint {name}".rstrip(), way_out, list(constraint.columns)
    elif isinstance(constraint, ColumnCollectionConstraint):
        where = getattr(constraint, "where", None)
        what = f"{type(constraint).__name__} {name}".rstrip()
        excluded = [each for each, *_ in getattr(constraint, "_render_exprs", ())]
        yield what, "Take it out", [*constraint.columns, where, *excluded]


def _reads(expression: Any, column: Column[Any]) -> bool:
    """Whether ``expression`` looks at more of a column than whether it is NULL."""
    if isinstance(expression, (str, TextClause)):
        sql = expression if isinstance(expression, str) else expression.text
        return _text_reads(sql, column.name)
    if not isinstance(expression, ClauseElement) or _asks_for_null(expression):
        return False
    if isinstance(expression, Column):
        return expression is column
    if isinstance(expression, ColumnClause) and expression.table is None:
        return _named(expression, column.name)
    return any(_reads(part, column) for part in expression.get_children())


def _named(expression: ColumnClause[Any], name: str) -> bool:
    """Whether a ``column()`` is of this name, or a ``literal_column()`` reads it."""
    read = _text_reads(expression.name, name) if expression.is_literal else expression.name == name
    return bool(read)


def _asks_for_null(expression: ClauseElement) -> bool:
    return (
        isinstance(expression, BinaryExpression)
        and expression.operator in (operators.is_, operators.is_not)
        and isinstance(expression.left, Column)
        and isinstance(expression.right, Null)
    )


def _text_reads(sql: str, name: str) -> bool:
    """Whether SQL names a column; a function, a type or a string of that name is none."""
    # Not behind "::" or AS, which a type follows, nor before "(", as a function is.
    quoted = rf'["`\[]{re.escape(name)}["`\]]'
    bare = rf"(?<![\w$:@])(?<!\bas )(?<!:: ){re.escape(name)}(?![\w$])(?!\s*\()(?!\s*'')"
    null = r"(?!\s+IS\s+(NOT\s+)?NULL\b)"
    return bool(re.search(rf"(?:{quoted}|{bare}){null}", _STRING.sub("''", sql), re.IGNORECASE))
