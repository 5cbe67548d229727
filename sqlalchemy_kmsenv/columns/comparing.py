"""The operators of an encrypted column: NULL checks work, everything else is refused."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql import operators as sql_operators
from sqlalchemy.sql.elements import ColumnClause, Label, Null
from sqlalchemy.types import TypeDecorator

from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.refusal_words import refused_operator

_NULL_CHECKS = (sql_operators.is_, sql_operators.is_not, sql_operators.eq, sql_operators.ne)
_EQUALITY = (sql_operators.eq, sql_operators.ne)
_MEMBERSHIP = (sql_operators.in_op, sql_operators.not_in_op)


class EncryptedComparator(TypeDecorator.Comparator[Any]):
    """Lets ``IS NULL`` through and refuses to compare envelopes.

    ``==`` between two columns makes an expression, since Python and SQLAlchemy ask
    ``column in [columns]`` while they build statements. As a bool it says whether
    both are the same column; ``places`` refuses the statement that it stands in.
    """

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """``IS NULL``, ``IS NOT NULL``, and equality of columns; anything else is refused."""
        if len(other) == 1 and (_asks_for_null(op, other[0]) or _compares_columns(op, other[0])):
            return super().operate(op, *other, **kwargs)
        raise self._refusal(op)

    def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Refused."""
        raise self._refusal(op)

    def _refusal(self, op: Any) -> UnboundValueError:
        of: Any = getattr(self.expr.type, "column", None)
        plain = of is None or isinstance(self.expr, (ColumnClause, Label))
        # A subquery would be shown as its whole SQL.
        name = str(self.expr) if plain else f"{of.table.name}.{of.name}"
        return UnboundValueError(f"{name} is encrypted: {refused_operator(op)}")


def _asks_for_null(op: Any, other: Any) -> bool:
    return op in _NULL_CHECKS and (other is None or isinstance(other, Null))


def _compares_columns(op: Any, other: Any) -> bool:
    if op in _EQUALITY:
        return _is_column(other)
    if op in _MEMBERSHIP:
        several = isinstance(other, (list, tuple, set, frozenset)) and len(other) > 0
        return several and all(map(_is_column, other))
    return False


def _is_column(other: Any) -> bool:
    """Whether this is an expression of the database, and no value of the application."""
    clause = other.__clause_element__() if hasattr(other, "__clause_element__") else other
    return isinstance(clause, ColumnElement) and not isinstance(clause, BindParameter)
