"""Clauses that name a column of the result by its label.

Reads the private class of references to labels, seen on 2.0.36 and 2.1.9
(``tests/columns/test_places.py`` holds it to that).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import FromClause, Select
from sqlalchemy.sql.elements import ColumnClause, _textual_label_reference
from sqlalchemy.sql.selectable import SelectStatementGrouping
from sqlalchemy.sql.visitors import HasTraverseInternals

from sqlalchemy_kmsenv.columns.outputs import (
    encrypted_inside,
    is_encrypted,
    outputs_of,
    unlabelled,
)


def encrypted_by_label(statement: Any, element: Any) -> Any | None:
    """The encrypted column of the result that a clause names by its label, if it names one."""
    for part in _parts_of(element):
        if not isinstance(part, _textual_label_reference):
            continue
        for output in outputs_of(statement):
            names = {getattr(output, "name", None), getattr(output, "key", None)}
            encrypted = is_encrypted(output) or encrypted_inside(output) is not None
            if part.element in names and encrypted:
                return unlabelled(output)
    return None


def _parts_of(element: Any) -> Iterator[Any]:
    yield element
    # A statement inside of this one has labels of its own.
    inner = isinstance(element, (FromClause, ColumnClause, SelectStatementGrouping, Select))
    if isinstance(element, HasTraverseInternals) and not inner:
        for child in element.get_children():
            yield from _parts_of(child)
