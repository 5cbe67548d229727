"""Where an encrypted column may stand in a statement: it is selected, or asked for NULL.

Everywhere else the database would work on envelopes: sort them, compare them,
copy them to where they do not open. The type refuses operators when they are
built; this looks at the rest of a statement, once for each compiled form of it.

Uses private attributes of statements, named below, and ``_distinct``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_places.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sqlalchemy import (
    Cast,
    CompoundSelect,
    Delete,
    Exists,
    FromClause,
    Insert,
    Join,
    LargeBinary,
    Select,
    TableClause,
    TypeCoerce,
    Update,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    Case,
    ColumnClause,
    Null,
    TableValuedColumn,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement, count
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    ForUpdateArg,
    SelectStatementGrouping,
)
from sqlalchemy.sql.visitors import HasTraverseInternals

from sqlalchemy_kmsenv.columns.bare_tables import refuse_untyped
from sqlalchemy_kmsenv.columns.conflicts import branches, conflicts, deciding
from sqlalchemy_kmsenv.columns.dml import value_expressions
from sqlalchemy_kmsenv.columns.insert_clauses import select_names
from sqlalchemy_kmsenv.columns.labels import encrypted_by_label
from sqlalchemy_kmsenv.columns.other_targets import refuse_unsealed
from sqlalchemy_kmsenv.columns.outputs import (
    check_compound,
    check_distinct,
    columns_of,
    encrypted_inside,
    is_encrypted,
    listed_in,
    name_of,
    unlabelled,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.refusal_words import refused_operator, refused_place

Place = str | Callable[..., Any]
"""Where an element stands: the clause, the function, or the operator."""

_CLAUSES = {
    "_where_criteria": "WHERE",
    "_order_by_clauses": "ORDER BY",
    "_group_by_clauses": "GROUP BY",
    "_having_criteria": "HAVING",
    "_distinct_on": "DISTINCT ON",
}
_NAMING = ("_order_by_clauses", "_group_by_clauses", "_having_criteria")
"""Where a label of the result may be named by a text."""
_RETURNING = ("_returning", "_return_defaults_columns", "_supplemental_returning")
_ELSEWHERE = (*_CLAUSES, *_RETURNING, "_raw_columns", "_memoized_select_entities", "selects",
              "select", "table", "column_args", "_post_values_clause", "_values",
              "_ordered_values")  # fmt: skip
"""What is looked at in its own way, or is no place of its own."""


def check_places(statement: Any, *, unsealed: Iterable[str] | None = None) -> None:
    """Look through a statement and the statements inside it.

    ``unsealed`` holds the names of the parameters of a statement that was not sealed.

    Raises:
        UnboundValueError: an encrypted column stands where its envelope would be worked
            on, or a statement that was not sealed writes one.
    """
    if unsealed is not None and isinstance(statement, (Insert, Update)):
        refuse_unsealed(statement, unsealed)
    _Walk().statement(statement)


def check_definition(definition: Any) -> None:
    """Look through the SELECT that a new table or view is made from.

    Raises:
        UnboundValueError: it selects an encrypted column.
    """
    selectable = getattr(definition, "selectable", None)
    if isinstance(selectable, (Select, CompoundSelect)):
        _Walk().statement(selectable, into="the rows of another table")


class _Walk:
    """One pass over a statement; subqueries are looked at once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, Place | None]] = set()

    def statement(self, statement: Any, *, into: Place | None = None) -> None:
        """A statement; ``into`` says what takes its columns, where that is not a result."""
        while isinstance(statement, SelectStatementGrouping):
            statement = statement.element
        # One SELECT may stand in FROM, where its columns may be read on, and in a condition.
        if (id(statement), into) in self._seen:
            return
        self._seen.add((id(statement), into))
        if isinstance(statement, CompoundSelect):
            for select in statement.selects:
                self.statement(select, into=into)
            check_compound(statement)
        elif isinstance(statement, Select):
            outputs = list(statement.inner_columns)
            refuse_untyped(outputs, statement.get_final_froms)
            self._outputs(outputs, into)
            if statement._distinct and not statement._distinct_on:
                check_distinct(list(statement.inner_columns), "DISTINCT")
        elif isinstance(statement, (Insert, Update)):
            self._written(statement)
        if isinstance(statement, (Insert, Update, Delete)):
            for attribute in _RETURNING:
                returned = list(columns_of(getattr(statement, attribute, None)))
                refuse_untyped(returned, lambda: [statement.table])
                self._outputs(returned, into)
        for value in listed_in(statement):
            self._value(value, "VALUES")
        self._clauses(statement)

    def _clauses(self, statement: Any) -> None:
        for attribute, place in _CLAUSES.items():
            for element in getattr(statement, attribute, None) or ():
                if attribute in _NAMING and isinstance(statement, (Select, CompoundSelect)):
                    named = encrypted_by_label(statement, element)
                    if named is not None:
                        _refuse(named, place)
                self._value(element, place)
        if isinstance(statement, HasTraverseInternals):
            for child in HasTraverseInternals.get_children(statement, omit_attrs=_ELSEWHERE):
                self._value(child, "this place")

    def _outputs(self, columns: Iterable[Any], into: Place | None) -> None:
        for column in columns:
            element = unlabelled(column)
            inner = encrypted_inside(element)
            if into is None and is_encrypted(element):
                self._source(element)
            elif into is None and inner is not None:
                self.statement(inner)
            else:
                self._value(element, into or "an expression")

    def _count(self, element: Any) -> None:
        for argument in element.clauses:
            if is_encrypted(argument):
                self._source(argument)
            else:
                self._value(argument, "count()")

    def _written(self, statement: Insert | Update) -> None:
        for _, value in value_expressions(statement):
            self._value(value, "the value of another column")
        if isinstance(statement, Update):
            return
        if select_names(statement):
            self.statement(statement.select, into="the rows of an INSERT")
        for conflict in conflicts(statement):
            for key, value in conflict.sets.items():
                for branch in branches(value):
                    # A value of the column itself: upserts.py sees to it that it is of the row.
                    if not (is_encrypted(branch) and branch.key == key):
                        self._value(branch, "the value of another column")
                for condition in deciding(value):
                    self._value(condition, "CASE")
            for condition in conflict.conditions:
                self._value(condition, "WHERE")

    def _value(self, element: Any, place: Place) -> None:
        """An element whose value the database works on."""
        if isinstance(element, ColumnClause):
            if is_encrypted(element):
                _refuse(element, place)
            self._source(element)
        elif isinstance(element, count):
            self._count(element)
        elif isinstance(element, FunctionElement):
            # Before the rest: SQLAlchemy takes a function for something to select from.
            self._parts(element, place)
        elif isinstance(element, (FromClause, SelectStatementGrouping, Select, CompoundSelect)):
            self._rows(element, place)
        elif isinstance(element, TableValuedColumn):
            self._whole_rows(element)
        elif isinstance(element, Exists):
            self._exists(element)
        elif isinstance(element, TypeCoerce) and _gives_stored_bytes(element):
            self._source(unlabelled(element.clause))
        elif asks_for_null(element):
            self._source(unlabelled(element.left))
        elif isinstance(element, HasTraverseInternals) and not isinstance(element, ForUpdateArg):
            self._parts(element, place)

    def _parts(self, element: Any, place: Place) -> None:
        for child in (*element.get_children(), *listed_in(element)):
            self._value(child, _place_in(element, place))

    def _rows(self, element: Any, place: Place) -> None:
        if isinstance(element, Join):
            self._rows(element.left, place)
            self._rows(element.right, place)
            self._value(element.onclause, "ON")
        elif isinstance(element, AliasedReturnsRows):
            if (id(element), "FROM") not in self._seen:
                self._seen.add((id(element), "FROM"))
                self._from(element.element)
        elif not isinstance(element, TableClause):
            # A subquery in the place of a value: what it selects is worked on.
            self.statement(element, into=place)

    def _from(self, element: Any) -> None:
        if isinstance(element, (AliasedReturnsRows, Join, TableClause)):
            self._rows(element, "FROM")
        elif isinstance(element, FunctionElement):
            self._value(element, "FROM")
        else:
            self._nested(element)

    def _nested(self, statement: Any) -> None:
        """A statement inside of another one."""
        if isinstance(statement, (Insert, Update)):
            refuse_unsealed(statement)
        self.statement(statement)

    def _whole_rows(self, element: Any) -> None:
        """``table_valued()`` makes one value of all columns of a row."""
        for column in element.scalar_alias.columns:
            if is_encrypted(column):
                _refuse(column, "table_valued()")
        self._rows(element.scalar_alias, "FROM")

    def _exists(self, element: Any) -> None:
        inner = element.element
        while not isinstance(inner, (Select, CompoundSelect)) and hasattr(inner, "element"):
            inner = inner.element
        self.statement(inner)

    def _source(self, column: Any) -> None:
        """What a column is read from."""
        source = getattr(column, "table", None)
        if isinstance(source, FromClause):
            self._rows(source, "FROM")


def _gives_stored_bytes(element: Any) -> bool:
    return isinstance(element.type, LargeBinary) and is_encrypted(element.clause)


def asks_for_null(element: Any) -> bool:
    """Whether this is IS NULL or IS NOT NULL of an encrypted column."""
    return (
        isinstance(element, BinaryExpression)
        and element.operator in (operators.is_, operators.is_not)
        and isinstance(element.right, Null)
        and is_encrypted(element.left)
    )


def _place_in(element: Any, place: Place) -> Place:
    if isinstance(element, FunctionElement):
        return f"{getattr(element, 'name', 'a function')}()"
    if isinstance(element, (Cast, TypeCoerce)):
        return "a cast"
    if isinstance(element, Case):
        return "CASE"
    if isinstance(element, (BinaryExpression, UnaryExpression)) and element.operator is not None:
        return element.operator
    return place


def _refuse(element: Any, place: Place) -> NoReturn:
    why = refused_place(place) if isinstance(place, str) else refused_operator(place)
    raise UnboundValueError(f"{name_of(element)} is encrypted: {why}")
