"""An object that moves to another key or scope takes its encrypted values along.

What a value is bound to changes with them, so each value is sealed anew in the
UPDATE that moves the row. It is read again for that, and the row locked: what
the object remembers may be older than what another transaction has written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, Connection, Table, event, inspect, select
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.attributes import flag_modified, set_attribute
from sqlalchemy.orm.exc import UnmappedColumnError

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.handover import stored_key
from sqlalchemy_kmsenv.columns.plan import encrypted_columns


def listen() -> None:
    """Follow every flush; called once, when the package is imported."""
    event.listen(Mapper, "before_update", _before_update)


def _before_update(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    for table in mapper.tables:
        if not isinstance(table, Table):
            continue
        bindings = encrypted_columns(table)
        if not bindings:
            continue
        state: InstanceState[Any] = inspect(target)
        left_behind = dict(_left_behind(mapper, state, bindings.values()))
        key = stored_key(mapper, state, table) if left_behind else None
        if key is not None:
            columns = [binding.column for binding in left_behind.values()]
            names_row = [each == part for each, part in zip(table.primary_key, key, strict=True)]
            row = connection.execute(select(*columns).where(*names_row).with_for_update()).first()
            if row is not None:
                _take_along(state, dict(zip(left_behind, row, strict=True)), columns)


def _take_along(
    state: InstanceState[Any], values: dict[str, Any], columns: list[Column[Any]]
) -> None:
    for (name, value), column in zip(values.items(), columns, strict=True):
        target: Any = state.obj()
        if name in state.dict and column.type.compare_values(state.dict[name], value):
            flag_modified(target, name)
        else:
            set_attribute(target, name, value)


def _left_behind(
    mapper: Mapper[Any], state: InstanceState[Any], bindings: Iterable[Binding]
) -> Iterator[tuple[str, Binding]]:
    """The attributes that are bound to what changes, and do not change themselves."""
    # A joined table gets its key from the one it inherits from, later in the flush.
    new_key = any(_changes(mapper, state, column) for column in mapper.primary_key)
    for binding in bindings:
        name = _attribute(mapper, binding.column)
        if name is None or state.attrs[name].history.has_changes():
            continue
        if binding.column.onupdate is not None and (not new_key or len(mapper.tables) == 1):
            # The UPDATE that moves the row gives it a new value. Of a joined table no UPDATE is
            # certain: the database may hand a new key down by itself.
            continue
        if any(
            (new_key and bound.column.primary_key) or _changes(mapper, state, bound.column)
            for bound in binding.bound_columns
        ):
            yield name, binding


def _changes(mapper: Mapper[Any], state: InstanceState[Any], column: Any) -> bool:
    name = _attribute(mapper, column)
    return name is not None and bool(state.attrs[name].history.has_changes())


def _attribute(mapper: Mapper[Any], column: Any) -> str | None:
    try:
        return mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        return None
