"""What ``Encrypted(...)`` is given, checked by itself; ``binding`` checks it against the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlalchemy_kmsenv.columns.binding import SCOPE_COLUMN, SCOPE_ROW, Bind, Scope
from sqlalchemy_kmsenv.errors import ConfigurationError

_MAX_PAD_TO = 1 << 20


def checked_bind(
    bind: Bind, *, identity: Sequence[str] | None, scope: str | tuple[str, ...]
) -> Bind:
    """Whether values are bound to rows, or to the column alone.

    Raises:
        ConfigurationError: it is another, or names the row and gives it up.
    """
    if bind not in ("row", "column"):
        raise ConfigurationError(f'Encrypted(bind={bind!r}): "row" or "column"')
    if bind == "column" and (identity is not None or scope == SCOPE_ROW):
        raise ConfigurationError(
            'Encrypted(bind="column") gives up the row, so neither identity=[...] nor scope="row"'
            " goes with it"
        )
    return bind


def checked_scope(scope: Scope) -> Literal["column", "row"] | tuple[str, ...]:
    """A scope: one of the two words, or the keys of columns.

    Raises:
        ConfigurationError: it is another.
    """
    if isinstance(scope, str):
        if scope not in (SCOPE_COLUMN, SCOPE_ROW):
            raise ConfigurationError(
                f'Encrypted(scope={scope!r}): "column", "row" or a list of column keys, as in'
                f" scope=[{scope!r}]"
            )
        return scope
    return column_keys(scope, "scope")


def column_keys(keys: Sequence[str], argument: str) -> tuple[str, ...]:
    """The keys of columns, each once.

    Raises:
        ConfigurationError: it is another.
    """
    names = tuple(keys) if not isinstance(keys, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            f"Encrypted({argument}={keys!r}) takes a list of column keys of the same table"
        )
    if len(set(names)) != len(names):
        raise ConfigurationError(f"Encrypted({argument}={keys!r}) names a column twice")
    return names


def checked_name(name: str | None) -> str | None:
    """A logical name, table and column.

    Raises:
        ConfigurationError: it is another.
    """
    if name is None:
        return None
    table, _, column = name.rpartition(".")
    if not table or not column:
        raise ConfigurationError(
            f'Encrypted(name={name!r}) takes a logical "table.column", such as "pings.position"'
        )
    return name


def checked_pad_to(pad_to: int | None) -> int | None:
    """A number of bytes to pad to.

    Raises:
        ConfigurationError: it is another.
    """
    valid = pad_to is None or (type(pad_to) is int and 0 < pad_to <= _MAX_PAD_TO)
    if not valid:
        raise ConfigurationError(
            f"Encrypted(pad_to={pad_to!r}) takes a number of bytes from 1 to {_MAX_PAD_TO:,}"
        )
    return pad_to
