"""What a SELECT returns, and what UNION and DISTINCT make of encrypted columns in it.

Reads the private ``_data`` of VALUES, seen on 2.0.36 and 2.1.9
(``tests/columns/test_nested_places.py`` holds it to that).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Cast,
    Column,
    CompoundSelect,
    FromClause,
    Label,
    Select,
    TypeCoerce,
    Values,
)
from sqlalchemy.sql.elements import ColumnClause, Grouping, Null
from sqlalchemy.sql.selectable import ScalarValues, SelectStatementGrouping

from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.packed_subqueries import selected_inside
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError


def check_compound(statement: CompoundSelect[Any]) -> None:
    """UNION and the like put values of several columns into one.

    Raises:
        UnboundValueError: one of them is encrypted, and another one is another column.
    """
    keyword = str(getattr(statement.keyword, "value", statement.keyword))
    rows = [outputs_of(select) for select in statement.selects]
    if "ALL" not in keyword:
        for outputs in rows:
            check_distinct(outputs, keyword)
    for elements in zip(*rows, strict=False):
        for element in elements:
            _refuse_subquery(element, keyword)
        encrypted = [element for element in elements if is_encrypted(element)]
        bindings = {column_of(element) for element in encrypted}
        others = [each for each in elements if not is_encrypted(each) and not is_null(each)]
        if encrypted and (len(bindings) > 1 or others):
            raise UnboundValueError(
                f"{name_of(encrypted[0])} is encrypted, and {keyword} mixes it with"
                f" {_describe(others[0]) if others else name_of(_differing(encrypted))}, so that"
                " its values could not be told apart; select the two separately"
            )
        if encrypted and not isinstance(getattr(elements[0], "type", None), Encrypted):
            # The first SELECT says the type of the column: envelopes would come as they are.
            # polymorphic_union() casts its NULL to the encrypted type.
            raise UnboundValueError(
                f"{name_of(encrypted[0])} is encrypted, and the first SELECT of {keyword} has NULL"
                " in its place, which says nothing of that; put the SELECT of"
                f" {name_of(encrypted[0])} first"
            )


def check_distinct(outputs: Sequence[Any], keyword: str) -> None:
    """Rows can be told apart only by their keys: two envelopes of one value differ.

    Raises:
        UnboundValueError: an encrypted column is selected without the key of its row.
    """
    selected = {hash(unlabelled(output)) for output in outputs}
    for output in outputs:
        element = unlabelled(output)
        _refuse_subquery(element, keyword)
        if not is_encrypted(element):
            continue
        source, column = element.table, column_of(element)
        keys = list(column.table.primary_key.columns) if column is not None else []
        found = [source.corresponding_column(key) for key in keys]
        if not keys or any(key is None or hash(key) not in selected for key in found):
            raise UnboundValueError(
                f"{name_of(element)} is encrypted: two envelopes of one value differ, so {keyword}"
                " would find no two alike. Select the primary key as well, or tell values apart in"
                " the application"
            )


def outputs_of(statement: Any) -> list[Any]:
    """The columns of a SELECT; of a UNION those of its first."""
    while isinstance(statement, SelectStatementGrouping):
        statement = statement.element
    if isinstance(statement, CompoundSelect):
        return outputs_of(statement.selects[0])
    return list(statement.inner_columns) if isinstance(statement, Select) else []


def unlabelled(element: Any) -> Any:
    """What a label, or a pair of brackets, stands for."""
    while isinstance(element, (Label, Grouping)):
        element = element.element
    return element


def is_encrypted(element: Any) -> bool:
    """Whether this is an encrypted column itself, of a table or of a subquery."""
    element = unlabelled(element)
    return isinstance(element, ColumnClause) and isinstance(element.type, Encrypted)


def encrypted_inside(element: Any) -> Select[Any] | None:
    """The SELECT of a scalar subquery of one encrypted column."""
    inner = selected_inside(element)
    return inner if inner is not None and isinstance(unlabelled(element).type, Encrypted) else None


def _refuse_subquery(element: Any, keyword: str) -> None:
    if encrypted_inside(element) is not None:
        raise UnboundValueError(
            f"{name_of(element)} is encrypted, and {keyword} would compare what a scalar subquery"
            " gives as envelopes, of which two of one value differ. Leave the subquery out, or"
            " make two queries of it"
        )


def column_of(element: Any) -> Column[Any] | None:
    """The column of a table that an encrypted one stands for, wherever it is read from."""
    owner = unlabelled(element).type
    return owner.column if isinstance(owner, Encrypted) else None


def is_null(element: Any) -> bool:
    """Whether this is NULL in every row."""
    element = unlabelled(element)
    if isinstance(element, (Cast, TypeCoerce)):
        return is_null(element.clause)
    if isinstance(element, BindParameter):
        return not element.required and element.effective_value is None
    return isinstance(element, Null)


def _differing(encrypted: Sequence[Any]) -> Any:
    first = column_of(encrypted[0])
    return next(each for each in encrypted if column_of(each) is not first)


def name_of(element: Any) -> str:
    """An encrypted column as messages name it."""
    column = column_of(element)
    return str(unlabelled(element)) if column is None else f"{column.table.name}.{column.name}"


def _describe(element: Any) -> str:
    return str(getattr(element, "key", None) or "another expression")


def columns_of(elements: Iterable[Any] | None) -> Iterator[Any]:
    """What RETURNING names, with the columns of a whole table in its place."""
    for element in elements or ():
        if isinstance(element, FromClause):
            yield from element.columns
        else:
            yield element


def listed_in(element: Any) -> list[Any]:
    """What stands in ``values().data([...])``, which SQLAlchemy does not count as its parts."""
    if not isinstance(element, (Values, ScalarValues)):
        return []
    return [value for rows in element._data for row in rows for value in row]
