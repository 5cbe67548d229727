"""Giving keyrings to the encrypted columns of a MetaData."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.columns.attached import attached_keyrings, remember
from sqlalchemy_kmsenv.columns.bound_columns import UntypedKeyError
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring


def attach_keyrings(metadata: MetaData, default: Keyring | None = None, **named: Keyring) -> None:
    """Let the encrypted columns of ``metadata`` use these keyrings.

    ``default`` serves ``Encrypted(...)``, a named one ``Encrypted(..., keyring="name")``.
    Attaching again replaces keyrings of the same name; those replaced forget
    their data keys, and what they refuse as revoked is refused by the new ones too.

    Raises:
        ConfigurationError: not a MetaData, not a Keyring, or an encrypted column
            that cannot be bound.
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
    attached = attached_keyrings(metadata)
    for name, keyring in given.items():
        replaced = attached.get(name)
        attached[name] = keyring
        keyring.call_it(name)
        if replaced is not None and replaced is not keyring:
            # What was found to have leaked is not believed again in this process.
            keyring.revoke(*replaced.revoked)
            replaced.forget()
    remember(metadata)
    for table in metadata.tables.values():
        # A table that one refers to may be defined later; a statement before that is refused.
        with suppress(UntypedKeyError):
            encrypted_columns(table)
