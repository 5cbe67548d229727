"""What a job does no more once it is to stop, and what the next run makes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    SingletonThreadPool,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
)

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Keyring,
    KeyServiceDeniedError,
    LocalKms,
    attach_keyrings,
)
from sqlalchemy_kmsenv.rewrap import TableCheckpoint, rewrap, survey, verify
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes

TEXT = ["kmsenv_rewrap_notes.text"]


@pytest.fixture(params=["file", "table"])
def checkpoint(request, tmp_path, checkpoint_table):
    """Both places in turn."""
    return tmp_path / "checkpoint.json" if request.param == "file" else TableCheckpoint()


@contextmanager
def statements(notes: Notes) -> Iterator[list[str]]:
    """What the database is asked."""
    seen: list[str] = []

    def remember(_conn: Any, _cursor: Any, sql: str, *_: Any) -> None:
        seen.append(sql)

    event.listen(notes.engine, "before_cursor_execute", remember)
    yield seen
    event.remove(notes.engine, "before_cursor_execute", remember)


def stopping_behind(column: str) -> dict[str, Any]:
    """Options that stop a job as soon as a column is done."""
    rows: dict[str, int] = {}

    def told(progress: Any) -> None:
        rows[progress.column] = progress.counts.rows

    return {"on_progress": told, "should_stop": lambda: rows.get(column) == 30}


@on("sqlite")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_waits_for_its_rate_can_be_stopped(notes: Notes, workers):
    """Ctrl-C must not have to wait for rows that have been read to be paid for."""
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()

    report = verify(
        notes.engine, notes.metadata, workers=workers, rows_per_second=0.5, should_stop=stop.is_set
    )

    timer.join()
    assert report.stopped == "it was asked to stop"
    assert report.seconds < 20


@on("sqlite")
def test_a_job_that_stops_asks_nothing_about_the_other_columns(notes: Notes):
    """To count and to cut a table of a billion rows takes minutes."""
    notes.key.rotate()

    options = stopping_behind(TEXT[0])
    should_stop = options["should_stop"]
    before: list[str] = []

    def stop() -> bool:
        if should_stop() and not before:
            before.extend(seen)
        return bool(before)

    with statements(notes) as seen:
        report = rewrap(
            notes.engine, notes.metadata, partitions=2, **{**options, "should_stop": stop}
        )

    assert report.stopped == "it was asked to stop"
    assert [column.finished for column in report.columns] == [True, False]
    assert not [sql for sql in seen[len(before) :] if sql.startswith("SELECT")]


@on("sqlite")
def test_a_job_that_stopped_says_nothing_of_a_target_that_moved(notes: Notes):
    """It is not at its end: the next run is told when it begins, and the key service is asked."""
    notes.key.rotate()
    options = stopping_behind(TEXT[0])
    should_stop = options["should_stop"]

    def rotate_and_stop() -> bool:
        if should_stop():
            notes.key.rotate()
            return True
        return False

    report = rewrap(notes.engine, notes.metadata, **{**options, "should_stop": rotate_and_stop})

    assert report.stopped == "it was asked to stop"
    assert (report.moved_targets, report.notes) == ((), ())


def test_a_column_that_was_done_is_not_gone_through_again(notes: Notes, checkpoint):
    """Of a table with a billion rows in each column."""
    notes.key.rotate()
    first = rewrap(notes.engine, notes.metadata, checkpoint=checkpoint, **stopping_behind(TEXT[0]))
    seen: list[str] = []

    second = rewrap(
        notes.engine,
        notes.metadata,
        checkpoint=checkpoint,
        on_progress=lambda progress: seen.append(progress.column),
    )

    assert not first.complete
    assert second.ok
    assert set(seen) == {"kmsenv_rewrap_notes.secret"}


@on("sqlite")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dry_run_keeps_nothing_anywhere(notes: Notes, workers, checkpoint):
    """Neither in the database nor beside it: the run behind it begins at the first row."""
    notes.key.rotate()

    report = rewrap(
        notes.engine, notes.metadata, checkpoint=checkpoint, workers=workers, dry_run=True
    )

    assert report.ok
    assert report.counts.rewritten == 57
    names = inspect(notes.engine).get_table_names()
    assert [name for name in names if name.startswith("kmsenv_")] == [notes.table.name]


@on("sqlite")
def test_keys_that_are_listed_meanwhile_do_not_keep_a_rewrap_from_going_on(notes: Notes, tmp_path):
    """An operator who finds one missing lists it, and goes on; targets are another matter."""
    notes.key.rotate()
    options: dict[str, Any] = {"columns": TEXT, "batch_size": 5, "checkpoint": tmp_path / "c.json"}
    pages: list[int] = []
    rewrap(
        notes.engine,
        notes.metadata,
        on_progress=lambda _: pages.append(1),
        should_stop=lambda: len(pages) >= 2,
        **options,
    )
    other = LocalKms.create(tmp_path / "other.json")
    attach_keyrings(notes.metadata, default=Keyring(notes.key, unwrap_only=[other]))

    report = rewrap(notes.engine, notes.metadata, **options)

    assert report.ok
    assert (report.counts.rows, report.counts.rewritten) == (30, 27)


def test_a_job_goes_on_from_another_directory(notes: Notes, tmp_path, monkeypatch):
    """It is the same database, whatever the path to a file is relative to."""
    here, there = tmp_path, tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(here)
    in_file = notes.engine.dialect.name == "sqlite"
    engine = create_engine("sqlite:///test.db") if in_file else notes.engine
    notes.key.rotate()
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.json"}
    first = rewrap(engine, notes.metadata, **options, **stopping_behind(TEXT[0]))
    engine.dispose()
    monkeypatch.chdir(there)

    second = rewrap(notes.engine, notes.metadata, **options)

    assert not first.complete
    assert second.ok
    assert second.counts.rewritten == 57


@on("sqlite")
@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:job?mode=memory&uri=true"]
)
def test_a_database_in_memory_leaves_no_lock_file(
    database, local_kms: LocalKms, tmp_path, monkeypatch, url
):
    """There is no file beside which it could be, nor another process to keep out."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    engine, metadata = create_engine(url, poolclass=SingletonThreadPool), MetaData()
    table = Table(
        "notes", metadata, Column("id", Integer, primary_key=True), Column("s", Encrypted(String))
    )
    attach_keyrings(metadata, default=Keyring(local_kms))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "s": "text"} for n in range(3)])
    local_kms.rotate()
    pages: list[int] = []
    there: list[Any] = []

    def told(_: object) -> None:
        pages.append(1)
        there.extend(place.iterdir())

    options: dict[str, Any] = {"checkpoint": TableCheckpoint(), "batch_size": 1}
    first = rewrap(
        engine, metadata, on_progress=told, should_stop=lambda: len(pages) == 1, **options
    )
    # From another directory it is the same database, too.
    monkeypatch.chdir(tmp_path)
    second = rewrap(engine, metadata, on_progress=told, **options)

    engine.dispose()
    assert (first.complete, first.counts.rewritten) == (False, 1)
    assert (second.ok, second.counts.rewritten) == (True, 3)
    assert [*there, *place.iterdir()] == []


@on("sqlite")
@pytest.mark.parametrize("preflight", [True, False])
def test_a_table_that_no_job_can_page_is_refused_before_the_first_row(notes: Notes, preflight):
    """Not after the hours that the table before it takes."""
    Table("zz_kmsenv_keyless", notes.metadata, Column("s", Encrypted(String, bind="column")))
    notes.metadata.create_all(notes.engine)
    notes.key.rotate()
    before = notes.stored()

    with pytest.raises(ConfigurationError, match="zz_kmsenv_keyless"):
        rewrap(notes.engine, notes.metadata, preflight=preflight)

    assert notes.stored() == before
    assert survey(notes.engine, notes.metadata, columns=TEXT).columns[0].not_at_target == 27


@on("sqlite")
def test_rows_without_a_value_do_not_hide_that_the_key_service_refuses_all(notes: Notes):
    """In a column of few values, a million rows would be gone through before anybody is told."""
    notes.key.rotate()

    def deny(_: Any) -> None:
        raise KeyServiceDeniedError("denied", operation="ReEncrypt", code="AccessDeniedException")

    attach_keyrings(notes.metadata, default=Keyring(Interfering(notes.key, deny)))

    report = rewrap(notes.engine, notes.metadata, columns=TEXT, batch_size=1, give_up_after=12)

    assert str(report.stopped).startswith("the key service refused 12 rows in a row")
    # The tenth of the rows before is NULL, and nothing was asked for it.
    assert report.counts.null == 1
