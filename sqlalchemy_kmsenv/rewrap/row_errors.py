"""Errors of the database that are one row's matter, and what may be told of them."""

from __future__ import annotations

import re

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

_NOT_OF_A_ROW = frozenset(
    "08 0A 25 28 2D 3D 3F 40 42 53 54 55 57 58 70 F0 XX".split()  # noqa: SIM905  easier to read
)
"""Classes of SQLSTATE that are about connections, locks, room, rights and statements."""
_NUMBERS_OF_A_ROW = frozenset([1369, 1406, 1644, 3819, 4025])
"""MySQL and MariaDB: CHECK of a view, data too long, SIGNAL, and CHECK of a table."""
_LIKE_STORED_BYTES = re.compile(r"[0-9A-Za-z+/=]{32,}|\\x|\\[0-7]{3}")
_LONGEST = 200


def concerns_rows(error: DBAPIError) -> bool:
    """Whether a row is refused, by a constraint or a trigger, and other rows may be written."""
    if error.connection_invalidated:
        return False
    if isinstance(error, (IntegrityError, DataError)):
        return True
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    # MySQL and MariaDB: HY000 says nothing; a lock that was not got in time is among them.
    if isinstance(state, str) and state != "HY000":
        return state[:2] not in _NOT_OF_A_ROW
    number = next(iter(getattr(error.orig, "args", ())), None)
    return number in _NUMBERS_OF_A_ROW


def words_of(error: DBAPIError) -> str:
    """The database's own words, without what else it says of the row; never a stored value."""
    # Not SQLAlchemy's text, which has the statement's parameters. PostgreSQL has the whole row
    # in lines of its own, behind the first.
    diagnosis = getattr(error.orig, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(error.orig)
    lines = text.strip().splitlines() or [""]
    # The words may be a trigger's, which can put anything into them.
    if not lines[0].isprintable() or _LIKE_STORED_BYTES.search(lines[0]):
        return "the database's words may hold stored bytes, and are left out"
    return lines[0][:_LONGEST]
