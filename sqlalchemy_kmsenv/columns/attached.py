"""Which keyring serves an encrypted column."""

from __future__ import annotations

from weakref import WeakSet

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring

_INFO_KEY = "sqlalchemy_kmsenv.keyrings"
_with_keyrings: WeakSet[MetaData] = WeakSet()
"""Where a statement that comes out of a pickle finds the keyring of the table that went in."""


def attached_keyrings(metadata: MetaData) -> dict[str, Keyring]:
    """The keyrings of a MetaData by name, to look up and to add to."""
    attached: dict[str, Keyring] = metadata.info.setdefault(_INFO_KEY, {})
    return attached


def remember(metadata: MetaData) -> None:
    """Let copies of its tables that come out of a pickle find its keyrings."""
    _with_keyrings.add(metadata)


def keyring_of(binding: Binding) -> Keyring:
    """The keyring that serves a column.

    Raises:
        ConfigurationError: none of that name is attached.
    """
    keyring = attached_keyrings(binding.column.table.metadata).get(binding.keyring_name)
    if keyring is None and getattr(binding.column.type, "was_pickled", False):
        keyring = _keyring_of_original(binding)
    if keyring is None:
        name = binding.keyring_name
        raise ConfigurationError(
            f"{binding.table_name}.{binding.column_name} uses keyring {name!r}, and none of that"
            f" name is attached; call attach_keyrings(metadata, {name}=Keyring(...)) before the"
            " first statement"
        )
    return keyring


def _keyring_of_original(binding: Binding) -> Keyring | None:
    """The keyring of the one table of this process that a pickled copy was made from."""
    column = binding.column
    found: dict[int, Keyring] = {}
    for metadata in _with_keyrings:
        table = metadata.tables.get(column.table.key)
        twin = None if table is None else table.columns.get(column.key)
        keyring = attached_keyrings(metadata).get(binding.keyring_name)
        if twin is not None and keyring is not None and repr(twin.type) == repr(column.type):
            found[id(keyring)] = keyring
    return next(iter(found.values())) if len(found) == 1 else None
