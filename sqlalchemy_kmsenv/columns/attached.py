"""Which keyring serves an encrypted column."""

from __future__ import annotations

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring

_INFO_KEY = "sqlalchemy_kmsenv.keyrings"


def attached_keyrings(metadata: MetaData) -> dict[str, Keyring]:
    """The keyrings of a MetaData by name, to look up and to add to."""
    attached: dict[str, Keyring] = metadata.info.setdefault(_INFO_KEY, {})
    return attached


def keyring_of(binding: Binding) -> Keyring:
    """The keyring that serves a column.

    Raises:
        ConfigurationError: none of that name is attached.
    """
    keyring = attached_keyrings(binding.column.table.metadata).get(binding.keyring_name)
    if keyring is None:
        name = binding.keyring_name
        raise ConfigurationError(
            f"{binding.table_name}.{binding.column_name} uses keyring {name!r}, and none of that"
            f" name is attached; call attach_keyrings(metadata, {name}=Keyring(...)) before the"
            " first statement"
        )
    return keyring
