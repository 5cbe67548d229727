"""Transactions of a job that wait for nobody: the application goes first.

A job takes the locks of its rows without waiting and leaves those rows for later that
others hold. So it is in no circle of waiting, which is what a deadlock is; where a trigger
or another table has it wait all the same, it gives up long before the database would
choose a victim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.columns.own_operators import equal, one_of
from sqlalchemy_kmsenv.errors import KmsEnvError
from sqlalchemy_kmsenv.rewrap.keyed import Key
from sqlalchemy_kmsenv.rewrap.tables import RawTable
from sqlalchemy_kmsenv.rewrap.writing import Write

_LOCK_STATES = frozenset(["55P03", "40P01"])
"""PostgreSQL: no lock in time, deadlock."""
_LOCK_NUMBERS = frozenset([1205, 1213, 3572])
"""MySQL and MariaDB: no lock in time, deadlock, NOWAIT."""
_ROWS_A_STATEMENT = 500
_COMPOSITE_KEYS_A_STATEMENT = 100


class RowHeldError(KmsEnvError):
    """Others held the lock of a row for as long as the job came back to it."""


HELD = RowHeldError(
    "a transaction of the application held the lock of this row each time that the job came back,"
    " and it stays as it was; run the job again, and look for a transaction that was forgotten"
)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction, committed at the end of the block, in which no lock is waited for long."""
    milliseconds = int(1000 * defaults.REWRAP_LOCK_WAIT_SECONDS)
    with engine.connect() as connection:
        name, restore = connection.dialect.name, ""
        if name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
        elif name == "sqlite":
            before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
            restore = f"PRAGMA busy_timeout = {before}"
        elif name in ("mysql", "mariadb"):
            asked = "SELECT @@innodb_lock_wait_timeout, @@binlog_format"
            before, binlog = connection.exec_driver_sql(asked).one()
            connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 1")
            if binlog != "STATEMENT":
                # Otherwise InnoDB locks, and waits for, every row that it passes by.
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            restore = f"SET SESSION innodb_lock_wait_timeout = {before}"
        try:
            yield connection
            connection.commit()
        finally:
            if restore and not connection.invalidated:
                with suppress(DBAPIError):
                    connection.rollback()
                    connection.exec_driver_sql(restore)


def is_about_locks(error: DBAPIError) -> bool:
    """Whether somebody else's lock was in the way of a statement; its transaction is over."""
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    number = next(iter(getattr(error.orig, "args", ())), None)
    return state in _LOCK_STATES or number in _LOCK_NUMBERS


class RowLocks:
    """Takes the locks of rows that are free."""

    def __init__(self, table: RawTable) -> None:
        self._table = table
        self._skips = table.dialect.name in ("postgresql", "mysql", "mariadb")

    def free(self, connection: Connection, writes: Sequence[Write]) -> list[Write]:
        """Those whose rows are locked now, by this transaction, or are not there any more."""
        if not self._skips:
            return list(writes)
        keys = [tuple(write[name] for name in self._table.key_names) for write in writes]
        got = set[Key]()
        step = _ROWS_A_STATEMENT if len(self._table.key) == 1 else _COMPOSITE_KEYS_A_STATEMENT
        for start in range(0, len(keys), step):
            got.update(self._locked(connection, keys[start : start + step]))
        if getattr(connection.dialect, "is_mariadb", False):
            # Never waits from here on. Not before: with 0, SKIP LOCKED ends in error 1180.
            connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
        return [write for write, key in zip(writes, keys, strict=True) if key in got]

    def _locked(self, connection: Connection, keys: Sequence[Key]) -> Iterator[Key]:
        columns = self._table.key
        these: ColumnElement[bool]
        if len(columns) == 1:
            (column,) = columns
            given = [key[0] for key in keys]
            these = one_of(column, "kmsenv_keys", connection.dialect, given)
        else:
            # Spelled out: MariaDB would scan, and lock, the whole table for a list of tuples.
            these = or_(*(_is(columns, key, connection.dialect) for key in keys))
        query = select(*columns).where(these)
        if self._table.hint:
            query = query.with_hint(self._table.bare, self._table.hint)
        # On PostgreSQL the weaker lock, which lets rows that refer to these come and go.
        locking = query.with_for_update(skip_locked=True, key_share=True)
        for row in connection.execute(locking):
            yield tuple(row)


def _is(columns: Sequence[ColumnElement[Any]], key: Key, dialect: Dialect) -> ColumnElement[bool]:
    return and_(*(equal(column, part, dialect) for column, part in zip(columns, key, strict=True)))
