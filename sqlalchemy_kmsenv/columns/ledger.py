"""Rows of the current transaction that were inserted and are not sealed yet.

Their cells are empty, which is no envelope, until the database has said which
row each became. Kept with the connection: no transaction is committed while
there are such rows, whatever went wrong in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    inserted_by: Callable[[], Connection | None] = field(repr=False)
    """The Connection that sent the INSERT, unless it is gone: a weak reference.

    Several can share one connection to the database, as with SingletonThreadPool, where hooks
    may send the statements of each to tables of its own.
    """
    keys: list[Key] = field(default_factory=list)
    """The primary key of each row, once the database has said it."""
    known_keys: list[Key] | None = None
    """The primary key of each row, where the INSERT gives all of it."""
    leaves_key: bool = False
    """Whether the key is one that the database counts up, and the INSERT gives none."""
    savepoints: frozenset[str] = frozenset()
    """The savepoints that were open when the rows were inserted."""
    sent: bool | None = None
    """Whether the database was given the INSERT, and has not refused it; None before."""
    may_skip: bool = False
    """Whether the INSERT leaves out rows of which the database has one already."""
    recount: bool = False
    """Whether the driver would count these rows otherwise, had their keys not been asked for."""

    def connection(self, another: Connection) -> Connection:
        """What is to seal them: the Connection of the INSERT, or another to the same database."""
        found = self.inserted_by()
        return another if found is None or found.closed else found

    def keep(self, places: Sequence[int], keys: Sequence[Key]) -> None:
        """The database has made these rows alone, with these keys."""
        if len(places) < self.count:
            self.columns = [each.only(places) for each in self.columns]
            self.parts = {name: [parts[i] for i in places] for name, parts in self.parts.items()}
            self.count = len(places)
        self.keys = list(keys)


@dataclass(slots=True)
class Ledger:
    """One connection's rows, in the order of their INSERTs."""

    under_way: list[LateRows] = field(default_factory=list)
    """Those of INSERTs that the database has not answered; one may run inside of another."""
    waiting: list[LateRows] = field(default_factory=list)
    flushing: bool = False
    """Whether a flush will seal what waits when it ends."""

    def expect(self, rows: LateRows) -> None:
        """An INSERT of these rows is about to be sent."""
        self.under_way.append(rows)

    def executed(self, rows: LateRows) -> None:
        """Their INSERT has been executed; they wait from now on."""
        self.under_way = [each for each in self.under_way if each is not rows]
        self.waiting.append(rows)

    def unsealed(self) -> list[LateRows]:
        """All that may be in the database without its values.

        An INSERT of many rows that failed may have left some of them; one that was
        sent, and not refused, has left its row, whatever was raised since.
        """
        lost = [
            rows
            for rows in self.under_way
            if rows.sent or (rows.count > 1 and rows.sent is not None)
        ]
        return [*self.waiting, *lost]

    def rolled_back_to(self, savepoint: str) -> None:
        """Forget the rows that were inserted since."""
        self.waiting = [rows for rows in self.waiting if savepoint not in rows.savepoints]
        self.under_way = [rows for rows in self.under_way if savepoint not in rows.savepoints]


def ledger_of(connection: Connection) -> Ledger:
    """The ledger of a connection, made when it is first asked for."""
    ledger: Ledger = connection.info.setdefault(_INFO_KEY, Ledger())
    return ledger


def open_ledger(connection: Connection) -> Ledger | None:
    """The ledger of a connection, where it has one, and the connection is alive."""
    # An invalidated connection would connect anew to say what it knows.
    if connection.closed or connection.invalidated:
        return None
    ledger: Ledger | None = connection.info.get(_INFO_KEY)
    return ledger


def listen() -> None:
    """Follow every transaction; called once, when the package is imported."""
    event.listen(Engine, "rollback_savepoint", _rollback_savepoint)
    event.listen(Engine, "rollback", _forget)
    event.listen(Engine, "rollback_twophase", _forget)
    event.listen(Engine, "commit", _before_commit)
    event.listen(Engine, "prepare_twophase", _before_prepare)
    event.listen(Engine, "commit_twophase", _before_second_phase)
    event.listen(Pool, "checkin", _checked_in)


def _rollback_savepoint(connection: Connection, name: str, _: Any) -> None:
    ledger = open_ledger(connection)
    if ledger is not None:
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
            " is neither prepared nor committed; roll it back"
        )


def _before_second_phase(connection: Connection, xid: Any, is_prepared: bool) -> None:
    if not is_prepared:
        _before_prepare(connection, xid)


def _unsealed_tables(connection: Connection) -> str:
    ledger = open_ledger(connection)
    if ledger is None:
        return ""
    return ", ".join(sorted({rows.table.name for rows in ledger.unsealed()}))
