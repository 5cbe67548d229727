"""Sealing and opening stored bytes by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.by_hand.places import PLAIN_DIALECT, NamedRow, binding_of, sections_of
from sqlalchemy_kmsenv.columns.opening import cell_opener
from sqlalchemy_kmsenv.columns.sealing import seal_values
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring.statements import next_statement


def open_cells(
    column: Any,
    stored: Iterable[bytes | bytearray | memoryview | None],
    rows: Iterable[NamedRow],
    *,
    dialect: Dialect | None = None,
) -> list[Any]:
    """The values of cells whose stored bytes were read without this library.

    ``column`` is an encrypted column of a table or a mapped class, ``stored`` its
    bytes, one for each of ``rows``: dictionaries of the identity and scope columns
    by key, such as ``{"id": 7, "tenant": "acme"}``. None stays None. ``dialect``
    is what a ``TypeDecorator`` is given.

    Raises:
        EnvelopeError: a cell holds no envelope.
        WrongCellError: one does not belong to its row; ``explain`` says more.
        KeyServiceError: a data key could not be unwrapped.
        UnboundValueError: a row lacks what its value is bound to.
        ConfigurationError: no encrypted column, or no keyring is attached.
        AuditError: the keyring's audit hook failed.
    """
    binding = binding_of(column)
    cells, named = _in_pairs(stored, rows)
    opener = cell_opener(binding, dialect or PLAIN_DIALECT)
    sections = sections_of(binding, named, dialect or PLAIN_DIALECT)
    next_statement()
    return [
        None if cell is None else opener(_packed(section, cell))
        for cell, section in zip(cells, sections, strict=True)
    ]


def seal_cells(
    column: Any,
    values: Iterable[Any],
    rows: Iterable[NamedRow],
    *,
    dialect: Dialect | None = None,
) -> list[bytes | None]:
    """The bytes to store for these values in these rows; the reverse of ``open_cells``.

    Raises:
        InvalidValueError: a value is not one that the column holds.
        KeyServiceError: no data key could be had; nothing was sealed.
        UnboundValueError: a row lacks what its value is bound to.
        ConfigurationError: no encrypted column, or no keyring is attached.
    """
    binding = binding_of(column)
    given, named = _in_pairs(values, rows)
    sections = sections_of(binding, named, dialect or PLAIN_DIALECT)
    sealed = seal_values(binding, given, sections, dialect or PLAIN_DIALECT)
    return [None if cell is None else bytes(cell.stored) for cell in sealed]


def _packed(section: bytes, cell: object) -> object:
    """What a SELECT would have returned; what is no bytes is refused as it is there."""
    # SQLite gives back whatever somebody stored; bytes() makes as many zeros of a number.
    return section + bytes(cell) if isinstance(cell, (bytes, bytearray, memoryview)) else cell


def _in_pairs(values: Iterable[Any], rows: Iterable[NamedRow]) -> tuple[list[Any], list[NamedRow]]:
    given, named = list(values), list(rows)
    if len(given) != len(named):
        raise ConfigurationError(
            f"{len(given)} values and {len(named)} rows; give one row for each value"
        )
    return given, named
