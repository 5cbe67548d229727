"""One logical name, one column: values of two that share one could be swapped."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table

from sqlalchemy_kmsenv.columns.binding import logical_names
from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.errors import ConfigurationError

_INFO_KEY = "sqlalchemy_kmsenv.logical_names"

VIEW = "is_view"
"""``Table(info={"is_view": True})``: what Alembic's recipes call it too."""

_Name = tuple[str, str]
"""Of a table and of a column, as values are bound to them."""
_Place = tuple[str, str]
"""The key of a table in its MetaData, and the key of a column in its table."""


def claim_logical_name(table: Table, column: Column[Any], encrypted: Encrypted[Any]) -> None:
    """Take the logical name of a column that joins a table, whenever it does.

    A view shows the cells of another table, and an archive holds them: they take no name of
    their own.

    Raises:
        ConfigurationError: another encrypted column of the same MetaData has it, in
            this table or in another one.
    """
    if encrypted.same_rows or table.info.get(VIEW):
        return
    claimed: dict[_Name, _Place] = table.metadata.info.setdefault(_INFO_KEY, {})
    name = logical_names(column, encrypted.name)
    place = (table.key, column.key)
    holder = claimed.get(name)
    if holder is not None and holder != place and _still_there(table, holder, name):
        raise ConfigurationError(
            f"{table.name}.{column.name} and {'.'.join(holder)} have the same logical name"
            f" {'.'.join(name)!r}, so their values could be swapped; give one of them another"
            " name=..., or declare that it shows the same rows (docs/reading.md)"
        )
    claimed[name] = place


def _still_there(table: Table, holder: _Place, name: _Name) -> bool:
    """Whether a column has a name that it once took: its table may be gone, or defined anew."""
    # A table that is being defined may not be in its MetaData yet.
    other = table if table.key == holder[0] else table.metadata.tables.get(holder[0])
    column = None if other is None else other.c.get(holder[1])
    if column is None or not isinstance(column.type, Encrypted):
        return False
    return logical_names(column, column.type.name) == name
