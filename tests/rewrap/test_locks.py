"""Rows that the application has locked: it goes first, always."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv.rewrap import TableCheckpoint, reencrypt, rewrap, survey
from tests.conftest import on
from tests.rewrap.conftest import Notes

SERVERS = on("postgresql", "mariadb")


class Holding:
    """A transaction of the application that holds the locks of some rows."""

    def __init__(self, notes: Notes, keys: list[int]) -> None:
        self.engine = create_engine(notes.engine.url)
        self.connection = self.engine.connect()
        query = text(f"UPDATE {notes.table.name} SET tenant = tenant + 0 + :n WHERE id = :id")
        for key in keys:
            self.connection.execute(query, {"id": key, "n": 1})

    def end(self) -> None:
        """Roll back."""
        self.connection.rollback()
        self.connection.close()
        self.engine.dispose()


@SERVERS
@pytest.mark.parametrize("job", [rewrap, reencrypt])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_rows_that_are_held_are_left_and_named(notes: Notes, job, batch_size):
    """A transaction that somebody forgot stalled the job, and the page with it, without limit."""
    notes.key.rotate()
    holding = Holding(notes, [4, 11])
    before = notes.stored()

    report = job(notes.engine, notes.metadata, columns=[notes.table.c.text], batch_size=batch_size)

    holding.end()
    assert report.complete
    assert (report.counts.rows, report.counts.rewritten, report.counts.failed) == (30, 25, 2)
    assert [(f.row, f.error) for f in report.columns[0].failures] == [
        (("4",), "RowHeldError"),
        (("11",), "RowHeldError"),
    ]
    after = notes.stored()
    assert {key for key in before if before[key] and before[key] == after[key]} == {4, 11}
    if job is rewrap:
        assert rewrap(notes.engine, notes.metadata).ok
        assert survey(notes.engine, notes.metadata).ok


@SERVERS
def test_a_job_comes_back_to_rows_that_were_held(notes: Notes):
    """Most locks are of transactions that last a moment; some last a little longer."""
    notes.key.rotate()
    holding = Holding(notes, [4, 11])
    timer = threading.Timer(2, holding.end)
    seen: list[Any] = []

    def told(progress: Any) -> None:
        seen.append(progress.counts)
        if len(seen) == 1:
            timer.start()

    report = rewrap(
        notes.engine, notes.metadata, columns=[notes.table.c.text], batch_size=7, on_progress=told
    )

    timer.join()
    assert report.ok
    assert (report.counts.rows, report.counts.rewritten) == (30, 27)
    assert [counts.rows for counts in seen] == sorted(counts.rows for counts in seen)


@SERVERS
def test_the_application_waits_for_no_row_that_the_job_has_not_got(notes: Notes):
    """The page had locked its other rows, and kept them while it waited for one."""
    notes.key.rotate()
    holding = Holding(notes, [11])
    done = threading.Event()

    def job() -> None:
        rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])
        done.set()

    thread = threading.Thread(target=job)
    thread.start()
    engine = create_engine(notes.engine.url)
    others = [key for key in range(30) if key != 11]
    while not done.is_set():
        for key in others:
            with engine.begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL statement_timeout = 2000"))
                else:
                    connection.execute(text("SET SESSION innodb_lock_wait_timeout = 2"))
                connection.execute(
                    text(f"UPDATE {notes.table.name} SET tenant = tenant + 1 WHERE id = {key}")
                )
        time.sleep(0.01)
    thread.join()
    holding.end()
    engine.dispose()


@SERVERS
def test_the_job_is_the_victim_of_every_deadlock(notes: Notes):
    """The application lost 85 of 85 on MariaDB, and 23 of 31 on PostgreSQL."""
    notes.fill(970, start=30)
    stop, lost, rounds = threading.Event(), [], []

    def writer(seed: int) -> None:
        engine = create_engine(notes.engine.url)
        table, number = notes.table.name, seed
        while not stop.is_set():
            # Against the order of the job, and of the other writer's steps.
            first, second = 999 - number % 500, number % 500
            number += 7
            try:
                with engine.begin() as connection:
                    for key in sorted((first, second), reverse=True):
                        connection.execute(
                            text(f"UPDATE {table} SET tenant = tenant WHERE id = {key}")
                        )
                        connection.execute(
                            select(notes.table.c.id)
                            .where(notes.table.c.id == key)
                            .with_for_update()
                        )
                        time.sleep(0.002)
                rounds.append(1)
            except OperationalError as error:
                lost.append(str(error.orig))
        engine.dispose()

    threads = [threading.Thread(target=writer, args=(seed,)) for seed in (1, 250)]
    for thread in threads:
        thread.start()
    reports = []
    for _ in range(6):
        notes.key.rotate()
        reports.append(
            rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text], batch_size=200)
        )
    stop.set()
    for thread in threads:
        thread.join()

    assert lost == []
    assert rounds
    assert all(report.stopped is None for report in reports)
    assert all(report.counts.rewritten > 800 for report in reports)


@on("postgresql")
def test_a_locked_table_ends_the_wait_not_the_job(notes: Notes):
    """A migration that locks the table must not find the job in a queue before others."""
    notes.key.rotate()
    engine = create_engine(notes.engine.url)
    with engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {notes.table.name} IN SHARE MODE"))
        report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])
    engine.dispose()

    assert report.complete
    assert {failure.error for failure in report.columns[0].failures} == {"RowHeldError"}
    assert report.counts.failed == 27
    assert rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text]).ok


@SERVERS
def test_more_rows_than_a_job_remembers_are_named_at_once(notes: Notes, monkeypatch):
    """Memory has a bound, and so has a checkpoint."""
    monkeypatch.setattr("sqlalchemy_kmsenv.defaults.REWRAP_HELD_ROWS", 2)
    notes.key.rotate()
    holding = Holding(notes, [4, 11, 12, 20])
    pages: list[Any] = []

    def told(progress: Any) -> None:
        pages.append(progress.counts)
        if len(pages) == 1:
            holding.end()

    report = rewrap(
        notes.engine, notes.metadata, columns=[notes.table.c.text], batch_size=30, on_progress=told
    )

    assert (pages[0].rows, pages[0].failed) == (28, 2)
    assert (report.counts.rows, report.counts.rewritten, report.counts.failed) == (30, 25, 2)
    failures = report.columns[0].failures
    assert [(f.row, f.error) for f in failures] == [
        (("12",), "RowHeldError"),
        (("20",), "RowHeldError"),
    ]


@pytest.mark.usefixtures("checkpoint_table")
@SERVERS
def test_rows_that_are_held_survive_a_stop(notes: Notes):
    """A job that goes on comes back to what the one before had left for later."""
    notes.key.rotate()
    holding = Holding(notes, [4])
    pages: list[int] = []
    options: dict[str, Any] = {
        "columns": [notes.table.c.text],
        "batch_size": 10,
        "checkpoint": TableCheckpoint(),
    }
    first = rewrap(
        notes.engine,
        notes.metadata,
        should_stop=lambda: len(pages) >= 2,
        on_progress=lambda _: pages.append(1),
        **options,
    )
    holding.end()

    second = rewrap(notes.engine, notes.metadata, **options)

    assert not first.complete
    assert first.counts.rows == 19
    assert second.ok
    assert (second.counts.rows, second.counts.rewritten) == (30, 27)


def test_a_connection_of_the_pool_is_as_it_was(notes: Notes):
    """The application's engine may be the job's."""
    notes.key.rotate()
    queries = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout",
    }
    query = text(queries[notes.engine.dialect.name])
    with notes.engine.connect() as connection:
        before = connection.scalar(query)

    assert rewrap(notes.engine, notes.metadata).ok

    with notes.engine.connect() as connection:
        assert connection.scalar(query) == before
