"""Rows of the current transaction that were inserted and are not sealed yet.

Their cells are empty, which is no envelope, until the database has said which
row each became. Kept with the connection: no transaction is committed while
there are such rows, whatever went wrong in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealing import EncodedValues
from sqlalchemy_kmsenv.columns.stored_rows import Key
from sqlalchemy_kmsenv.columns.transactions import Options

_INFO_KEY = "sqlalchemy_kmsenv.ledger"


@dataclass(slots=True)
class LateRows:
    """What one INSERT left to be sealed."""

    table: Table
    count: int
    columns: Sequence[EncodedValues] = field(repr=False)
    parts: dict[str, list[bytes]] = field(repr=False)
    """The parts that are known already, one a row, by the key of their column."""
    options: Options = field(repr=False)
    keys: list[Key] = field(default_factory=list)
    """The primary key of each row, once the database has said it."""
    savepoints: frozenset[str] = frozenset()
    """The savepoints that were open when the rows were inserted."""


@dataclass(slots=True)
class Ledger:
    """One connection's rows, in the order of their INSERTs."""

    executing: LateRows | None = None
    """Belongs to the INSERT that is on its way to the database."""
    waiting: list[LateRows] = field(default_factory=list)
    flushing: bool = False
    """Whether a flush will seal what waits when it ends."""

    def expect(self, rows: LateRows) -> None:
        """The next INSERT of this connection is that of ``rows``."""
        self.failed()
        self.executing = rows

    def executed(self) -> LateRows | None:
        """The rows of the INSERT that has just been executed; they wait from now on."""
        rows, self.executing = self.executing, None
        if rows is not None:
            self.waiting.append(rows)
        return rows

    def failed(self) -> None:
        """The INSERT on its way failed. One of many rows may have left some of them."""
        rows, self.executing = self.executing, None
        if rows is not None and rows.count > 1:
            self.waiting.append(rows)

    def rolled_back_to(self, savepoint: str) -> None:
        """Forget the rows that were inserted since."""
        self.waiting = [rows for rows in self.waiting if savepoint not in rows.savepoints]


def ledger_of(connection: Connection) -> Ledger:
    """The ledger of a connection, made when it is first asked for."""
    ledger: Ledger = connection.info.setdefault(_INFO_KEY, Ledger())
    return ledger


def open_ledger(connection: Connection) -> Ledger | None:
    """The ledger of a connection, where it has one."""
    ledger: Ledger | None = connection.info.get(_INFO_KEY)
    return ledger


def listen() -> None:
    """Follow every transaction; called once, when the package is imported."""
    event.listen(Engine, "rollback_savepoint", _rollback_savepoint)
    event.listen(Engine, "rollback", _forget)
    event.listen(Engine, "rollback_twophase", _forget)
    event.listen(Engine, "commit", _before_commit)
    event.listen(Engine, "prepare_twophase", _before_prepare)
    event.listen(Pool, "checkin", _checked_in)


def _rollback_savepoint(connection: Connection, name: str, _: Any) -> None:
    gone = connection.closed or connection.invalidated
    ledger = None if gone else open_ledger(connection)
    if ledger is not None:
        ledger.failed()
        ledger.rolled_back_to(name)


def _checked_in(_: Any, record: ConnectionPoolEntry) -> None:
    # A connection that was dropped without a word is rolled back by the pool.
    record.info.pop(_INFO_KEY, None)


def _forget(connection: Connection, *_: Any) -> None:
    if not connection.closed and not connection.invalidated:
        connection.info.pop(_INFO_KEY, None)


def _before_commit(connection: Connection) -> None:
    unsealed = _unsealed_tables(connection)
    if unsealed:
        # SQLAlchemy counts the transaction as ended, and would send no ROLLBACK any more.
        connection.dialect.do_rollback(connection.connection)
        _forget(connection)
        raise UnboundValueError(
            f"rows of {unsealed} were inserted in this transaction and could not be sealed, so it"
            " was rolled back instead of committed; roll back yourself when an INSERT fails"
        )


def _before_prepare(connection: Connection, _: Any) -> None:
    unsealed = _unsealed_tables(connection)
    if unsealed:
        raise UnboundValueError(
            f"rows of {unsealed} were inserted in this transaction and could not be sealed, so it"
            " is not prepared; roll it back"
        )


def _unsealed_tables(connection: Connection) -> str:
    ledger = open_ledger(connection)
    if ledger is None:
        return ""
    ledger.failed()
    return ", ".join(sorted({rows.table.name for rows in ledger.waiting}))
