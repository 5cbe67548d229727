"""Which keyrings serve the encrypted columns of a MetaData."""

from __future__ import annotations

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring

_INFO_KEY = "sqlalchemy_kmsenv.keyrings"


def attach_keyrings(metadata: MetaData, default: Keyring | None = None, **named: Keyring) -> None:
    """Let the encrypted columns of ``metadata`` use these keyrings.

    ``default`` serves ``Encrypted(...)``, a named one ``Encrypted(..., keyring="name")``.
    Attaching again replaces keyrings of the same name; those replaced forget
    their data keys.

    Raises:
        ConfigurationError: not a MetaData, or not a Keyring.
    """
    if not isinstance(metadata, MetaData):
        raise ConfigurationError(
            f"attach_keyrings takes a MetaData such as Base.metadata, got {type(metadata).__name__}"
        )
    given = dict(named) if default is None else {"default": default, **named}
    for name, keyring in given.items():
        if not isinstance(keyring, Keyring):
            raise ConfigurationError(
                f"attach_keyrings({name}=...) takes a Keyring, got {type(keyring).__name__}"
            )
    attached: dict[str, Keyring] = metadata.info.setdefault(_INFO_KEY, {})
    for name, keyring in given.items():
        replaced = attached.get(name)
        attached[name] = keyring
        if replaced is not None and replaced is not keyring:
            replaced.forget()


def keyring_of(binding: Binding) -> Keyring:
    """The keyring that serves a column.

    Raises:
        ConfigurationError: none of that name is attached.
    """
    attached: dict[str, Keyring] = binding.column.table.metadata.info.get(_INFO_KEY, {})
    keyring = attached.get(binding.keyring_name)
    if keyring is None:
        name = binding.keyring_name
        raise ConfigurationError(
            f"{binding.table_name}.{binding.column_name} uses keyring {name!r}, and none of that"
            f" name is attached; call attach_keyrings(metadata, {name}=Keyring(...)) before the"
            " first statement"
        )
    return keyring
