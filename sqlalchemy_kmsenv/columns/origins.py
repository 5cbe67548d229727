"""Which of the columns of a subquery names the row that another of its columns is from.

Follows the private ``_proxies`` of columns, seen on 2.0.36 and 2.1.9
(``tests/columns/test_loading.py`` holds it to that).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column
from sqlalchemy.sql.elements import KeyedColumnElement, Label
from sqlalchemy.sql.selectable import FromClause

from sqlalchemy_kmsenv.columns.packed_subqueries import selected_inside


def column_beside(stored: Any, column: Column[Any]) -> KeyedColumnElement[Any] | None:
    """The column that stands for ``column`` in the row that ``stored`` is from.

    A subquery may carry the same column of several aliases of a table, so the way
    is gone that ``stored`` came. None where the column was left out on the way, or
    where the parts of a UNION have it in different places.
    """
    source: FromClause = stored.table
    inner: Any = getattr(source, "element", None)
    if inner is None or (isinstance(inner, FromClause) and not hasattr(inner, "element")):
        return source.corresponding_column(column)
    found = []
    for origin in _origins(stored):
        wanted = column_beside(origin, column)
        if wanted is None:
            return None
        found.append(source.corresponding_column(wanted, require_embedded=True))
    if not found:
        # What a scalar subquery selects is from a row of its own, which is not beside it.
        through = any(selected_inside(origin) is not None for origin in stored._proxies)
        return None if through else source.corresponding_column(column)
    return found[0] if all(each is found[0] for each in found) else None


def _origins(stored: Any) -> list[Any]:
    origins = []
    for origin in stored._proxies:
        element = origin
        while isinstance(element, Label):
            element = element.element
        if isinstance(getattr(element, "table", None), FromClause):
            origins.append(element)
    return origins
