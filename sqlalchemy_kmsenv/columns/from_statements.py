"""``from_statement()``: what fills the attributes of objects must know that it is encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, inspect
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
        found = selected.corresponding_column(column)
        if found is None:
            found = selected.get(column.name)
        if found is None or isinstance(found.type, Encrypted) or _is_null(found):
            continue
        raise UnboundValueError(
            f"{column.table.name}.{column.name} is encrypted, and from_statement() would fill it"
            f" with what is stored: its statement describes {column.name} as {found.type!r}. Select"
            " the column of the model, or leave it out of the statement; it can be loaded later"
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


def _is_null(column: Any) -> bool:
    return isinstance(getattr(column, "element", column), Null)
