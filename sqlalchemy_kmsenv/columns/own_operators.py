"""Comparisons that the library itself adds, by operators of the database itself.

Whoever may CREATE in a schema of PostgreSQL's search_path makes an ``=`` that fits better than
PostgreSQL's own, or comes before it, and could say that a row is another one (CVE-2018-1058).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import BindParameter, ColumnElement, bindparam, literal, or_, tuple_, types
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from sqlalchemy_kmsenv.columns.variants import on_database

_BUILT_IN = (
    types.Boolean, types.Date, types.DateTime, types.Integer, types.LargeBinary, types.Numeric,
    types.String, types.Time, types.Uuid,
)  # fmt: skip
_EQUAL = "OPERATOR(pg_catalog.=)"


class OneOf(ColumnElement[bool]):
    """``column IN values`` for an expanding parameter, by PostgreSQL's own ``=``."""

    __visit_name__ = "kmsenv_one_of"
    inherit_cache = True
    type = types.Boolean()
    _traverse_internals = [  # noqa: RUF012
        ("column", InternalTraversal.dp_clauseelement),
        ("values", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, column: ColumnElement[Any], values: BindParameter[Any]) -> None:
        self.column = column
        self.values = values


@compiles(OneOf)
def _compile_one_of(element: OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    values = compiler.process(element.values, **kw).removeprefix("(").removesuffix(")")
    # Never a value, and it says what the others are: a driver may send them without a type.
    typed = f"CASE WHEN false THEN {column} END"
    return f"{column} {_EQUAL} ANY (ARRAY[{typed}, {values}])"


def equal(left: ColumnElement[Any], right: Any, dialect: Dialect) -> ColumnElement[bool]:
    """``left = right``; as SQLAlchemy has it, where an extension brought the operator."""
    if not is_pinned(left, dialect):
        same: ColumnElement[bool] = left == right
        return same
    if not isinstance(right, ClauseElement):
        right = literal(right, left.type)
    return left.op(_EQUAL, is_comparison=True)(right)


def equal_to_one(
    column: ColumnElement[Any], values: Sequence[Any], dialect: Dialect
) -> ColumnElement[bool]:
    """``column IN values``, which has no spelling with an operator's schema."""
    if not is_pinned(column, dialect):
        return column.in_(values)
    return or_(*(equal(column, value, dialect) for value in values))


def one_of(
    column: ColumnElement[Any], name: str, dialect: Dialect, values: Sequence[Any] | None = None
) -> ColumnElement[bool]:
    """``column IN`` the values of a parameter, one at least, given here or with the statement."""
    given: dict[str, Any] = {} if values is None else {"value": values}
    several: BindParameter[Any] = bindparam(name, type_=column.type, expanding=True, **given)
    return OneOf(column, several) if is_pinned(column, dialect) else column.in_(several)


def compared(
    columns: Sequence[ColumnElement[Any]],
    operator: Literal[">", "<="],
    values: Sequence[ColumnElement[Any]],
    dialect: Dialect,
) -> ColumnElement[bool]:
    """A comparison of one column, or of rows, with values."""
    left: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
    right = values[0] if len(values) == 1 else tuple_(*values)
    if all(is_pinned(each, dialect) for each in columns):
        operator = f"OPERATOR(pg_catalog.{operator})"  # type: ignore[assignment]
    made: ColumnElement[bool] = left.bool_op(operator)(right)
    return made


def is_pinned(column: ColumnElement[Any], dialect: Dialect) -> bool:
    """Whether PostgreSQL itself has the operators of a column's type."""
    if dialect.name != "postgresql":
        return False
    stored = on_database(column.type, dialect).type
    return isinstance(stored, _BUILT_IN) and not isinstance(stored, CITEXT)
