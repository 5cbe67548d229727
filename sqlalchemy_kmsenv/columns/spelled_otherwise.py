"""What SQLite holds in a column of a date or a UUID that SQLAlchemy would not have written there.

Any text stands in such a column, and some are read as a value all the same: CURRENT_TIMESTAMP
without a fraction of a second, a UUID in capitals. No part is made of them, so that what is
sealed for such a row could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, literal
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.cell import DATETIME_PART, UUID_PART
from sqlalchemy_kmsenv.columns.batch import described
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.packing import PackedCell
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.stored_rows import Key, read_stored
from sqlalchemy_kmsenv.columns.transactions import Options

_ADVICE = {
    DATETIME_PART: (
        "SQLAlchemy stores six digits of a second, and SQLite's CURRENT_TIMESTAMP none. Roll back,"
        " and give it with each row, or let the server make it by"
        " text(\"(strftime('%Y-%m-%d %H:%M:%f000', 'now'))\"); mend rows that are there"
    ),
    UUID_PART: (
        "SQLAlchemy stores lower-case digits, with hyphens only where the type says so. Roll back,"
        " and give it with each row, or let the server make it so; mend rows that are there"
    ),
}


def may_be_spelled_otherwise(wanted: Sequence[BoundColumn], dialect: Dialect) -> bool:
    """Whether the database may hold what SQLAlchemy reads, and would not have written."""
    return dialect.name == "sqlite" and any(bound.kind in _ADVICE for bound in wanted)


def refuse_other_spellings(
    connection: Connection,
    key_columns: Sequence[Column[Any]],
    keys: Sequence[Key],
    wanted: Sequence[BoundColumn],
    options: Options,
) -> None:
    """Of the rows with these keys, each wanted column has to hold what a part is made of.

    Raises:
        UnboundValueError: one holds another spelling, for which nothing can be sealed.
    """
    for bound in wanted:
        if not may_be_spelled_otherwise([bound], connection.dialect):
            continue
        cell: Any = PackedCell(literal(b"", LargeBinary()), ((bound.kind, bound.column),))
        found = read_stored(connection, key_columns, keys, [cell], options)
        if any(row is not None and not row[0] for row in found):
            raise UnboundValueError(
                f"{described(bound.column)} cannot name a row as it is stored:"
                f" {_ADVICE[bound.kind]}"
            )
