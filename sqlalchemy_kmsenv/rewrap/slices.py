"""One worker's part of a job: some pages of one partition."""

from __future__ import annotations

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Desk, Workshop, opened_source
from sqlalchemy_kmsenv.rewrap.keyed import Key
from sqlalchemy_kmsenv.rewrap.landing import Landing
from sqlalchemy_kmsenv.rewrap.locks import HELD, is_about_locks, writing
from sqlalchemy_kmsenv.rewrap.meter import Meter, StopJobError, metered
from sqlalchemy_kmsenv.rewrap.partitions import Partition
from sqlalchemy_kmsenv.rewrap.plans import JobSource
from sqlalchemy_kmsenv.rewrap.reports import Counts, Failure
from sqlalchemy_kmsenv.rewrap.row_errors import concerns_rows, words_of
from sqlalchemy_kmsenv.rewrap.tables import Rows
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import Write

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, and for how long, a worker goes on."""

    seconds: float
    """After which it reports; at least one page."""
    kms_per_second: float | None
    """This, and the next, over all threads of the process."""
    rows_per_second: float | None
    kms_patience_seconds: float
    give_up_after: int


@dataclass(frozen=True, slots=True)
class SliceResult:
    """How far a worker got."""

    partition: Partition
    stopped: str | None = None
    """Why the whole job has to stop."""
    notes: tuple[str, ...] = ()
    process: str = ""
    """Where it ran."""


def run_slice(
    where: Workshop | JobSource,
    job: ColumnJob,
    partition: Partition,
    pace: Pace,
    should_stop: Callable[[], bool] | None = None,
) -> SliceResult:
    """Go on with a partition for some time.

    Raises:
        ConfigurationError: the column cannot be worked on.
    """
    workshop = where if isinstance(where, Workshop) else opened_source(where, job.run)
    meter = Meter(
        budgets=workshop.budgets,
        kms_per_second=pace.kms_per_second,
        rows_per_second=pace.rows_per_second,
        patience_seconds=pace.kms_patience_seconds,
        should_stop=should_stop,
    )
    worker = _Worker(workshop.desk(job), job, pace, meter)
    with metered(meter):
        result = worker.go_on(partition)
    process = f"{socket.gethostname()}:{os.getpid()}"
    return replace(result, notes=tuple(sorted(worker.notes)), process=process)


class _Worker:
    def __init__(self, desk: Desk, job: ColumnJob, pace: Pace, meter: Meter) -> None:
        self._desk = desk
        self._work = desk.work
        self._width = len(desk.work.table.key)
        self._landing = Landing(desk)
        self._job = job
        self._pace = pace
        self._meter = meter
        self._counted = 0
        self._refusal: Failure | None = None

    @property
    def notes(self) -> AbstractSet[str]:
        """What the report is to say besides."""
        return self._desk.notes | self._work.notes

    def go_on(self, partition: Partition) -> SliceResult:
        """Page after page, until its time is up or the job has to stop."""
        began = time.monotonic()
        while not partition.finished:
            page_began = time.monotonic()
            before = partition.counts.rows
            try:
                for reached in self._page(partition):
                    partition = reached
                    if partition.refused >= self._pace.give_up_after:
                        return SliceResult(partition, self._gave_up(partition))
            except StopJobError as stop:
                return self._stopped(partition, str(stop))
            except DBAPIError as error:
                return self._stopped(partition, _database_failed(error))
            self._meter.pay_for_rows(partition.counts.rows - before, page_began)
            if self._meter.is_to_stop() or time.monotonic() - began >= self._pace.seconds:
                break
        return SliceResult(partition)

    def _page(self, partition: Partition) -> Iterator[Partition]:
        """The partition after each part of one page, each in a transaction of its own."""
        limit = self._job.batch_size
        rows = self._again(partial(self._read, partition.after, partition.upto, limit))
        for chunk in self._chunks(rows):
            partition = self._again(partial(self._serve, partition, chunk))
            self._counted = self._meter.kms_calls
            yield partition
        if len(rows) < limit:
            for partition in self._serve_held(partition):  # noqa: B020  each is the one before, further
                self._counted = self._meter.kms_calls
                yield partition
            partition = replace(partition, finished=True)
            self._again(partial(self._keep_alone, partition))
            yield partition

    def _read(self, after: Key | None, upto: Key | None, limit: int | None) -> Rows:
        with self._desk.engine.connect() as connection:
            return self._work.table.page(connection, after, upto, limit)

    def _chunks(self, rows: Rows) -> Iterator[Rows]:
        """The rows of a page, or fewer where their values are large."""
        if not self._work.whole_values:
            yield from [rows] if rows else []
            return
        start = size = 0
        for index, row in enumerate(rows):
            size += row[self._width + 1] or 0
            if size > defaults.REWRAP_CHUNK_BYTES and index > start:
                yield rows[start:index]
                start, size = index, row[self._width + 1] or 0
        if rows:
            yield rows[start:]

    def _serve(self, partition: Partition, rows: Rows) -> Partition:
        outcome = self._work.examine(rows)
        due = len(outcome.writes)
        if self._job.dry_run or not due:
            made = self._moved(partition, rows, outcome, due)
            self._keep_alone(made)
            return made
        try:
            with writing(self._desk.engine) as connection:
                hits = self._landing.write_free(connection, outcome)
                if hits == len(outcome.writes):
                    made = self._moved(partition, rows, outcome, hits)
                    self._keep(connection, made)
                    return made
        except DBAPIError as error:
            if not (concerns_rows(error) or is_about_locks(error)):
                raise
            hits = self._landing.write_singly(outcome)
        last = key_of(rows[-1], self._width)
        hits += self._landing.look_again(partition.after, last, outcome)
        made = self._moved(partition, rows, outcome, hits)
        self._keep_alone(made)
        return made

    def _serve_held(self, partition: Partition) -> Iterator[Partition]:
        """Come back to rows that others had locked, until they are served or given up."""
        wait = defaults.REWRAP_LOCK_FIRST_WAIT_SECONDS
        for rounds_left in reversed(range(defaults.REWRAP_LOCK_ROUNDS)):
            if not partition.held:
                return
            partition = self._again(partial(self._serve_keys, partition, last=not rounds_left))
            yield partition
            if partition.held:
                self._meter.sleep(wait)
                wait *= 2

    def _serve_keys(self, partition: Partition, *, last: bool) -> Partition:
        table = self._work.table
        with self._desk.engine.connect() as connection:
            found = [table.row(connection, key, table.prefix_bytes) for key in partition.held]
        outcome = self._work.examine([row for row in found if row is not None])
        due = {self._landing.key_of_write(write): write for write in outcome.writes}
        hits = self._landing.write_singly(outcome)
        if hits < len(outcome.writes):
            # Written by others since they were read a moment ago: looked at once more.
            with self._desk.engine.connect() as connection:
                for key in map(self._landing.key_of_write, outcome.writes):
                    row = table.row(connection, key, table.prefix_bytes)
                    if row is not None and self._landing.is_open(row, due):
                        outcome.held.append(key)
        if last:
            for key in outcome.held:
                outcome.fail(key, HELD)
            outcome.held.clear()
        seen = len(partition.held) - len(outcome.held)
        calls = self._meter.kms_calls - self._counted
        counts = outcome.counts(seen, rewritten=hits, kms_calls=calls)
        made = partition.moved(partition.after, counts, outcome.failures)
        made = replace(made, held=tuple(outcome.held))
        self._keep_alone(made)
        return made

    def _key_of_write(self, write: Write) -> Key:
        return tuple(write[name] for name in self._work.table.key_names)

    def _moved(
        self, partition: Partition, rows: Rows, outcome: Outcome, rewritten: int
    ) -> Partition:
        calls = self._meter.kms_calls - self._counted
        room = max(0, defaults.REWRAP_HELD_ROWS - len(partition.held))
        for key in outcome.held[room:]:
            outcome.fail(key, HELD)
        del outcome.held[room:]
        seen = len(rows) - len(outcome.held)
        counts = outcome.counts(seen, rewritten=rewritten, kms_calls=calls)
        made = partition.moved(key_of(rows[-1], self._width), counts, outcome.failures)
        made = replace(made, held=(*partition.held, *outcome.held))
        if outcome.tally:
            made = replace(made, tally=Counter(partition.tally or {}) + outcome.tally)
        self._refusal = outcome.refusal or self._refusal
        if outcome.refused and not (rewritten or outcome.opened):
            return replace(
                made,
                refused=partition.refused + outcome.refused,
                before_refusals=partition.before_refusals or partition,
            )
        if rewritten or outcome.opened:
            return replace(made, refused=0, before_refusals=None)
        return made

    def _keep(self, connection: Connection, partition: Partition) -> None:
        if self._job.kept is not None:
            self._job.kept.keep(connection, self._job.column, partition)

    def _keep_alone(self, partition: Partition) -> None:
        if self._job.kept is not None:
            with self._desk.engine.begin() as connection:
                self._keep(connection, partition)

    def _again(self, act: Callable[[], _T]) -> _T:
        """What ``act`` gives, tried again where its transaction was rolled back."""
        wait = defaults.REWRAP_DATABASE_FIRST_WAIT_SECONDS
        for tries_left in reversed(range(defaults.REWRAP_DATABASE_TRIES)):
            try:
                return act()
            except (OperationalError, InterfaceError, InternalError):
                if not tries_left:
                    raise
            self._meter.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  spreads tries
            wait *= 2
        raise AssertionError

    def _stopped(self, partition: Partition, why: str) -> SliceResult:
        calls = Counts(kms_calls=self._meter.kms_calls - self._counted)
        return SliceResult(replace(partition, counts=partition.counts + calls), why)

    def _gave_up(self, partition: Partition) -> str:
        last = self._refusal
        why = "" if last is None else f", the last with {last.error}: {last.message}"
        return f"the key service refused {partition.refused} rows in a row{why}"


def _database_failed(error: DBAPIError) -> str:
    return f"the database failed ({type(error.orig).__name__}): {words_of(error)}"
