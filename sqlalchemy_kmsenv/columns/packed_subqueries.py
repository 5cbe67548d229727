"""Scalar subqueries of one encrypted column: the packed cell is selected inside of them.

Uses the private ``SQLCompiler._nested_result``, which has the columns of a nested
SELECT rendered as those of a result are; seen on 2.0.36 and 2.1.9
(``tests/columns/test_scalar_subqueries.py`` holds it to that).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ScalarSelect, Select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import Grouping, Label
from sqlalchemy.sql.selectable import SelectStatementGrouping


class PackedSubquery(ColumnElement[Any]):
    """A scalar subquery whose one column is selected as the packed cell of its row."""

    __visit_name__ = "kmsenv_packed_subquery"
    inherit_cache = False

    def __init__(self, subquery: ScalarSelect[Any]) -> None:
        self.subquery = subquery
        self.type = subquery.type


def selected_inside(element: Any) -> Select[Any] | None:
    """The SELECT of a scalar subquery; None for every other element, and for a UNION."""
    while isinstance(element, (Label, Grouping)):
        element = element.element
    if not isinstance(element, ScalarSelect):
        return None
    inner: Any = element.element
    while isinstance(inner, SelectStatementGrouping):
        inner = inner.element
    return inner if isinstance(inner, Select) else None


@compiles(PackedSubquery)
def _compile(element: PackedSubquery, compiler: SQLCompiler, **kw: Any) -> str:
    # The column of the subquery packs itself, from the subquery's own FROM.
    with compiler._nested_result():
        return processed(compiler, element.subquery, kw)


def processed(compiler: SQLCompiler, element: ColumnElement[Any], kw: dict[str, Any]) -> str:
    """The SQL of an element inside of one that stands for it in the result."""
    # The label around the outer one already stands for the column.
    inner = {
        key: value
        for key, value in kw.items()
        if key not in ("within_columns_clause", "within_label_clause", "add_to_result_map")
    }
    return str(compiler.process(element, **inner))
