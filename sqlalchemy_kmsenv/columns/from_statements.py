"""What fills the attributes of objects must know that it is encrypted: SQLAlchemy goes by names.

``from_statement()``, and ``aliased(Model, subquery, adapt_on_names=True)``. Reads the private
``_adapt_on_names`` of an alias; seen on 2.0.36 and 2.1.9 (``tests/columns/test_loading.py`` holds
them to it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, ColumnClause, Select, TextClause, inspect
from sqlalchemy.orm import FromStatement, Mapper
from sqlalchemy.sql.elements import Null

from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError


def refuse_stored_bytes(statement: FromStatement[Any]) -> None:
    """Look whether it selects, for an encrypted column, what has another type.

    SQLAlchemy goes by the names then, and a ``String`` has nothing to open.

    Raises:
        UnboundValueError: an object, or a row, would get envelopes for values.
    """
    # A text() without columns() has none: SQLAlchemy gives its columns the types of the model's.
    selected = getattr(statement.element, "exported_columns", None)
    if selected is None:
        return
    for column in _encrypted(statement):
        found = _stored_bytes(selected, column)
        if found is not None:
            raise UnboundValueError(
                f"{column.table.name}.{column.name} is encrypted, and from_statement() would fill"
                f" it with what is stored: its statement describes {column.name} as"
                f" {found.type!r}. Select the column of the model, or leave it out of the"
                " statement; it can be loaded later"
            )


def refuse_adapted(statement: Select[Any]) -> None:
    """Look whether an alias of a class takes, for an encrypted column, what has another type.

    Raises:
        UnboundValueError: an object, or a row, would get envelopes for values.
    """
    try:
        descriptions = statement.column_descriptions
    except AttributeError:
        # SQLAlchemy cannot describe SELECT *, which names no alias.
        if all(map(_is_star, statement.inner_columns)):
            return
        raise
    for entity in {each.get("entity") for each in descriptions}:
        alias = inspect(entity, raiseerr=False)
        if not (getattr(alias, "is_aliased_class", False) and alias._adapt_on_names):
            continue
        selected = alias.selectable.exported_columns
        for column in alias.mapper.columns:
            if not isinstance(column.type, Encrypted):
                continue
            found = _stored_bytes(selected, column)
            if found is not None:
                raise UnboundValueError(
                    f"{column.table.name}.{column.name} is encrypted, and the subquery that"
                    f" {alias.name or 'an alias'} of {alias.mapper.class_.__name__} takes its"
                    f" columns from describes {column.name} as {found.type!r}, so that it would be"
                    " filled with what is stored. Select the column of the model in the subquery"
                )


def _encrypted(statement: FromStatement[Any]) -> Iterator[Column[Any]]:
    for description in statement.column_descriptions:
        entity = inspect(description["expr"], raiseerr=False)
        mapper = getattr(entity, "mapper", None)
        whole = entity is mapper or getattr(entity, "is_aliased_class", False)
        if isinstance(mapper, Mapper) and whole:
            types = [column.type for column in mapper.columns]
        else:
            types = [description["type"]]
        for each in types:
            if isinstance(each, Encrypted) and each.column is not None:
                yield each.column


def _stored_bytes(selected: Any, column: Column[Any]) -> Any:
    """What stands for the column there and does not know that it is encrypted, if anything."""
    found = selected.corresponding_column(column)
    if found is None:
        found = selected.get(column.name)
    opened = found is None or isinstance(found.type, Encrypted) or _is_null(found)
    return None if opened else found


def _is_star(element: Any) -> bool:
    sql = element.text if isinstance(element, TextClause) else getattr(element, "name", None)
    return isinstance(element, (TextClause, ColumnClause)) and sql == "*"


def _is_null(column: Any) -> bool:
    """Whether it is NULL itself, also where a subquery has it."""
    return all(isinstance(getattr(each, "element", each), Null) for each in column.base_columns)
