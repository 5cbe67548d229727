"""What a flush knows of its objects, handed to the UPDATE that it is about to execute.

An UPDATE names the key but not the scope columns; the object has them, so that
no query is needed. They are kept with the connection from ``before_update`` to
``after_update``, and forgotten when the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, event, inspect
from sqlalchemy.engine import Engine
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from sqlalchemy_kmsenv.cell import STR_PART
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.columns.stored_rows import Key

_INFO_KEY = "sqlalchemy_kmsenv.handover"
_Handover = dict[tuple[str, Key], dict[str, Any]]


def handed_over(
    connection: Connection,
    key_columns: Sequence[Column[Any]],
    keys: Sequence[Key],
    wanted: Sequence[Column[Any]],
) -> list[Key | None] | None:
    """The wanted values of the row of each key, or None unless a flush gave all of them."""
    handover: _Handover = connection.info.get(_INFO_KEY, {})
    table = key_columns[0].table
    if list(key_columns) != list(table.primary_key.columns):
        return None
    found: list[Key | None] = []
    for key in keys:
        values = handover.get((table.key, key))
        if values is None or any(column.key not in values for column in wanted):
            return None
        found.append(tuple(values[column.key] for column in wanted))
    return found


def listen() -> None:
    """Follow every flush; called once, when the package is imported."""
    event.listen(Mapper, "before_update", _before_update)
    event.listen(Mapper, "after_update", _after_update)
    event.listen(Engine, "rollback", _forget)
    event.listen(Engine, "rollback_savepoint", _forget)


def _before_update(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    for table in mapper.tables:
        if not isinstance(table, Table):
            continue
        wanted = _wanted(table)
        if not wanted:
            continue
        state: InstanceState[Any] = inspect(target)
        key = stored_key(mapper, state, table)
        if key is not None:
            handover: _Handover = connection.info.setdefault(_INFO_KEY, {})
            handover[table.key, key] = _stored_values(mapper, state, wanted)


def _after_update(_: Mapper[Any], connection: Connection, __: Any) -> None:
    handover: _Handover | None = connection.info.get(_INFO_KEY)
    if handover:
        # The rows of one flush are written together: what is left over serves nobody.
        handover.clear()


def _forget(connection: Connection, *_: Any) -> None:
    # A connection that was lost has nothing left, and its info cannot be asked for.
    if not connection.closed and not connection.invalidated:
        connection.info.pop(_INFO_KEY, None)


def _wanted(table: Table) -> list[Column[Any]]:
    """What the WHERE of a flush leaves open, or may spell differently."""
    wanted: dict[str, Column[Any]] = {}
    for binding in encrypted_columns(table).values():
        for bound in binding.bound_columns:
            if not bound.column.primary_key or bound.kind is STR_PART:
                wanted[bound.column.key] = bound.column
    return list(wanted.values())


def stored_key(mapper: Mapper[Any], state: InstanceState[Any], table: Table) -> Key | None:
    """The primary key that an object has in a table, as far as the object tells."""
    columns = list(table.primary_key.columns)
    values = _stored_values(mapper, state, columns)
    if state.identity is not None:
        # Known also while the attributes are expired.
        values |= {
            str(column.key): part
            for column, part in zip(mapper.primary_key, state.identity, strict=True)
            if column.table is table
        }
    if any(column.key not in values for column in columns):
        return None
    return tuple(values[column.key] for column in columns)


def _stored_values(
    mapper: Mapper[Any], state: InstanceState[Any], columns: Sequence[Column[Any]]
) -> dict[str, Any]:
    """The values that the database holds, as far as the object has them loaded."""
    values: dict[str, Any] = {}
    for column in columns:
        try:
            name = mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
        history = state.attrs[name].history
        stored = history.deleted or history.unchanged
        if stored:
            values[column.key] = stored[0]
    return values
