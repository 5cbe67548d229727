"""From what a caller names, a column and a row, to what a value is bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect

from sqlalchemy_kmsenv.cell import join_parts
from sqlalchemy_kmsenv.columns import Encrypted, UnboundValueError
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import ConfigurationError

NamedRow = Mapping[str, Any]
"""The values of a row's identity and scope columns, by the keys of the columns."""

PLAIN_DIALECT: Dialect = DefaultDialect()
"""For inner types that look at no dialect, which is nearly all of them."""


def binding_of(column: Any) -> Binding:
    """What the values of an encrypted column are bound to.

    ``column`` is a column of a table, or a mapped attribute.

    Raises:
        ConfigurationError: it is not an encrypted column.
    """
    clause = column.__clause_element__() if hasattr(column, "__clause_element__") else column
    kind = getattr(clause, "type", None)
    if not isinstance(kind, Encrypted) or not isinstance(kind.column, Column):
        raise ConfigurationError(
            f"{column!r} is not an encrypted column; give one of a table or of a mapped class, such"
            " as Ping.position"
        )
    return kind.binding


def sections_of(
    binding: Binding, rows: Sequence[NamedRow], dialect: Dialect = PLAIN_DIALECT
) -> list[bytes]:
    """What binds a value to each of these rows, given as the application does there.

    Raises:
        UnboundValueError: a row lacks a value, or it is not one of its column.
    """
    if not binding.bound_columns:
        return [b""] * len(rows)
    parts = []
    for bound in binding.bound_columns:
        key = bound.column.key
        values = [row.get(key) for row in rows]
        if None in values:
            names = ", ".join(repr(each.column.key) for each in binding.bound_columns)
            raise UnboundValueError(
                f"{binding.column.table.name}.{binding.column.name} is bound to {names}; give each"
                f" row as a dictionary with all of them ({key!r} is missing)"
            )
        parts.append(bound.parts(values, dialect))
    return join_parts(parts)
