"""Keeps opened values out of the rows that ``echo="debug"`` prints.

SQLAlchemy logs rows when they have been processed, which for an encrypted column
means in plaintext, ``hide_parameters`` or not. A result decides that it logs when
it is made, between these two events. Uses the private ``Connection._echo`` and
``SQLCompiler._result_columns``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_secrets.py``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sqlalchemy_kmsenv.columns.encrypted import Encrypted

_INFO_KEY = "sqlalchemy_kmsenv.muted"


def mute(connection: Connection, *event: Any) -> None:
    """An ``after_cursor_execute`` listener: no row with an encrypted column is logged."""
    if not connection._echo:
        return
    context = event[3]
    columns = getattr(context.compiled, "_result_columns", None) or ()
    if any(isinstance(column[3], Encrypted) for column in columns):
        connection._echo = False
        connection.info[_INFO_KEY] = True


def unmute(connection: Connection, *_: Any) -> None:
    """An ``after_execute`` listener: the next statement is logged again."""
    if not connection._echo and not connection.closed and connection.info.pop(_INFO_KEY, False):
        connection._echo = True
