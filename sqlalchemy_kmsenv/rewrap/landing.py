"""The UPDATEs of a page, row by row where the database, or somebody's lock, will have it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.rewrap.desks import Desk
from sqlalchemy_kmsenv.rewrap.keyed import Key
from sqlalchemy_kmsenv.rewrap.locks import RowLocks, is_about_locks, writing
from sqlalchemy_kmsenv.rewrap.row_errors import concerns_rows, words_of
from sqlalchemy_kmsenv.rewrap.tables import Rows, stored_bytes
from sqlalchemy_kmsenv.rewrap.work import Outcome, UnreachedRowError, key_of
from sqlalchemy_kmsenv.rewrap.writing import NEW, OLD, Write

_TIMED_OUT_IN_A_ROW = 5
"""After which the rows of a page are left for later without being tried: the table is locked."""
_ROUNDS = 3
"""How often a row is looked at that somebody else keeps writing."""


class Landing:
    """Brings what is due into the rows of one column."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._work = desk.work
        self._width = len(desk.work.table.key)
        self._locks = RowLocks(desk.work.table)

    def _write(self, connection: Connection, writes: Sequence[Write]) -> int:
        writer = self._work.writer
        return 0 if writer is None else writer(connection, writes)

    def write_free(self, connection: Connection, outcome: Outcome) -> int:
        """How many rows were hit, of those that nobody else has locked."""
        free = self._locks.free(connection, outcome.writes)
        if len(free) < len(outcome.writes):
            got = {self.key_of_write(write) for write in free}
            keys = map(self.key_of_write, outcome.writes)
            outcome.held += [key for key in keys if key not in got]
            outcome.writes[:] = free
        return self._write(connection, free)

    def _write_again(self, outcome: Outcome) -> int:
        try:
            with writing(self._desk.engine) as connection:
                return self.write_free(connection, outcome)
        except DBAPIError as error:
            if not (concerns_rows(error) or is_about_locks(error)):
                raise
        return self.write_singly(outcome)

    def write_singly(self, outcome: Outcome) -> int:
        """How many rows were hit; those that the database refuses become failures."""
        # No savepoints: a deferred constraint is checked by COMMIT alone.
        writes, hits, timed_out = list(outcome.writes), 0, 0
        outcome.writes.clear()
        for write in writes:
            if timed_out >= _TIMED_OUT_IN_A_ROW:
                outcome.held.append(self.key_of_write(write))
                continue
            alone = Outcome(writes=[write])
            try:
                with writing(self._desk.engine) as connection:
                    hit = self.write_free(connection, alone)
            except DBAPIError as error:
                alone.writes.clear()
                if is_about_locks(error):
                    timed_out += 1
                    outcome.held.append(self.key_of_write(write))
                elif concerns_rows(error):
                    name = type(error.orig).__name__
                    outcome.fail_as(self.key_of_write(write), name, words_of(error))
                else:
                    raise
            else:
                hits, timed_out = hits + hit, 0
                outcome.held += alone.held
            outcome.writes += alone.writes
        return hits

    def look_again(self, after: Key | None, last: Key, outcome: Outcome) -> int:
        """Serve those that were written meanwhile; how many of them were rewritten here."""
        due = {self.key_of_write(write): write for write in outcome.writes}
        rewritten = 0
        for _ in range(_ROUNDS):
            found = self._rows(after, last)
            rows = [row for row in found if self.is_open(row, due)]
            again = self._work.examine(rows)
            rewritten += self._write_again(again) if again.writes else 0
            outcome.failures += again.failures
            outcome.failed += again.failed
            outcome.refused += again.refused
            outcome.refusal = again.refusal or outcome.refusal
            outcome.not_envelopes += again.not_envelopes
            outcome.held += again.held
            outcome.false_headers += again.false_headers
            if not again.writes:
                return rewritten
            due = {self.key_of_write(write): write for write in again.writes}
        for row in self._rows(after, last):
            key = key_of(row, self._width)
            if key in due and _unchanged(row[self._width], due[key]):
                outcome.fail(key, UnreachedRowError(_UNREACHED))
        return rewritten

    def key_of_write(self, write: Write) -> Key:
        """The key of the row that a write is for."""
        return tuple(write[name] for name in self._work.table.key_names)

    def _rows(self, after: Key | None, upto: Key) -> Rows:
        with self._desk.engine.connect() as connection:
            return self._work.table.page(connection, after, upto, None)

    def is_open(self, row: Row[Any], due: Mapping[Key, Write]) -> bool:
        """Whether a row that was to be written holds something else now."""
        write = due.get(key_of(row, self._width))
        if write is None or row[self._width] is None:
            return write is not None
        raw, new = stored_bytes(row[self._width]), bytes(write[NEW])
        size = min(len(raw), len(new))
        return raw[:size] != new[:size]


def _unchanged(raw: Any, write: Write) -> bool:
    return raw is not None and stored_bytes(raw).startswith(write[OLD])


_UNREACHED = (
    "an UPDATE by primary key does not reach this row, though nobody else has written it; is the"
    " column too short for the new value, or does a trigger, a row security policy or"
    " max_allowed_packet keep the UPDATE from it?"
)
