"""Comparisons that the library itself adds, by operators of the database itself.

Whoever may CREATE in a schema of PostgreSQL's search_path makes an ``=`` that fits better than
PostgreSQL's own, or comes before it, and could say that a row is another one (CVE-2018-1058).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, literal, or_, types
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

from sqlalchemy_kmsenv.columns.variants import on_database

_BUILT_IN = (
    types.Boolean, types.Date, types.DateTime, types.Integer, types.LargeBinary, types.Numeric,
    types.String, types.Uuid,
)  # fmt: skip
_EQUAL = "OPERATOR(pg_catalog.=)"


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


def is_pinned(column: ColumnElement[Any], dialect: Dialect) -> bool:
    """Whether PostgreSQL itself has the operators of a column's type."""
    if dialect.name != "postgresql":
        return False
    stored = on_database(column.type, dialect).type
    return isinstance(stored, _BUILT_IN) and not isinstance(stored, CITEXT)
