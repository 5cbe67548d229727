"""What becomes of a page: which transactions it takes, and whose matter a failure is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, event, update
from sqlalchemy.exc import IntegrityError, OperationalError

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import FormerBinding, TableCheckpoint, reencrypt, rewrap, survey
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes

TEXT = ["kmsenv_rewrap_notes.text"]


@contextmanager
def watched(notes: Notes, wrong: Any = None) -> Iterator[list[str]]:
    """The UPDATEs of the table, and the commits, in order; ``wrong`` may raise at one."""
    seen: list[str] = []

    def statement(_conn: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith(f"UPDATE {notes.table.name}"):
            seen.append("UPDATE")
            if wrong is not None:
                wrong(seen.count("UPDATE"), sql)

    def commit(_conn: Any) -> None:
        seen.append("COMMIT")

    event.listen(notes.engine, "before_cursor_execute", statement)
    event.listen(notes.engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(notes.engine, "before_cursor_execute", statement)
        event.remove(notes.engine, "commit", commit)


def test_a_page_that_the_database_rolled_back_is_tried_again_as_a_whole(notes: Notes):
    """Row by row would be a transaction for each, of all pages, whenever a server restarts."""
    notes.key.rotate()

    def wrong(number: int, sql: str) -> None:
        if number == 1:
            raise OperationalError(sql, {}, Exception("server is gone"))

    with watched(notes, wrong) as seen:
        report = rewrap(notes.engine, notes.metadata, columns=TEXT)

    assert report.counts.rewritten == 27
    assert seen.count("UPDATE") == 2


def test_a_database_that_goes_away_between_single_rows_stops_the_job(notes: Notes, tmp_path):
    """A row that nobody tried must not be reported as refused."""
    notes.key.rotate()

    def wrong(number: int, sql: str) -> None:
        if number == 1:
            raise IntegrityError(sql, {}, Exception("a constraint"))
        if number > 4:
            raise OperationalError(sql, {}, Exception("server is gone"))

    options: dict[str, Any] = {"columns": TEXT, "checkpoint": tmp_path / "job.json"}
    with watched(notes, wrong):
        report = rewrap(notes.engine, notes.metadata, **options)

    assert "server is gone" in str(report.stopped)
    assert report.counts.failed == 0
    assert rewrap(notes.engine, notes.metadata, **options).ok


def test_a_row_that_changes_while_rows_are_written_singly_is_looked_at_again(
    notes: Notes, tmp_path
):
    """A constraint that refuses one row must not leave another under the old key."""
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
    old, wrote = Keyring(notes.kms), list[int]()

    def write_with_the_old_key(_: Any) -> None:
        if not wrote:
            wrote.append(5)
            attach_keyrings(notes.metadata, default=old)
            with notes.engine.begin() as connection:
                same = notes.table.c.id == 5
                connection.execute(update(notes.table).where(same).values(text="late"))
            attach_keyrings(notes.metadata, default=keyring)

    def wrong(number: int, sql: str) -> None:
        # The first is the application's.
        if number == 2:
            raise IntegrityError(sql, {}, Exception("a constraint"))

    keyring = Keyring(Interfering(new, write_with_the_old_key), unwrap_only=[notes.key])
    attach_keyrings(notes.metadata, default=keyring)
    with watched(notes, wrong):
        report = rewrap(notes.engine, notes.metadata, columns=TEXT)

    assert (report.counts.rewritten, report.counts.changed) == (27, 0)
    assert survey(notes.engine, notes.metadata, columns=TEXT).ok
    assert notes.texts()[5] == "late"


def test_large_values_are_written_in_parts_and_headers_at_once(notes: Notes, monkeypatch):
    """The parts bound memory where values travel; where they do not, a page is a transaction."""
    largest = max(len(raw) for raw in notes.stored().values() if raw)
    monkeypatch.setattr("sqlalchemy_kmsenv.defaults.REWRAP_CHUNK_BYTES", largest)
    notes.key.rotate()

    with watched(notes) as headers:
        assert rewrap(notes.engine, notes.metadata, columns=TEXT, preflight=False).ok
    with watched(notes) as values:
        assert reencrypt(notes.engine, notes.metadata, columns=TEXT, preflight=False).ok

    assert "UPDATE COMMIT UPDATE" not in " ".join(headers)
    # No two values fit into one part.
    assert " ".join(values).count("UPDATE COMMIT") == 27


@pytest.mark.usefixtures("checkpoint_table")
@pytest.mark.parametrize("interfered", [False, True])
def test_a_page_without_a_write_moves_the_checkpoint(notes: Notes, interfered):
    """A table that is at its target would be read from the start after each kill."""
    pages: list[int] = []
    options: dict[str, Any] = {
        "columns": TEXT,
        "batch_size": 5,
        "checkpoint": TableCheckpoint(),
        "count_rows": False,
    }
    if interfered:
        notes.key.rotate()
        shared = Keyring(notes.kms)

        def overtake(_: Any) -> None:
            # Somebody else writes a row of the page that is in hand.
            attach_keyrings(notes.metadata, default=shared)
            with notes.engine.begin() as connection:
                same = notes.table.c.id == 1
                connection.execute(update(notes.table).where(same).values(text="late"))
            attach_keyrings(notes.metadata, default=keyring)

        keyring = Keyring(Interfering(notes.key, overtake))
        attach_keyrings(notes.metadata, default=keyring)
    first = rewrap(
        notes.engine,
        notes.metadata,
        should_stop=lambda: len(pages) >= 1,
        on_progress=lambda _: pages.append(1),
        **options,
    )
    seen: list[int] = []
    second = rewrap(
        notes.engine, notes.metadata, on_progress=lambda p: seen.append(p.counts.rows), **options
    )

    assert (first.counts.rows, first.counts.failed) == (5, 0)
    assert first.counts.changed == (1 if interfered else 0)
    assert seen[0] == 10
    assert second.counts.rows == 30


def test_a_dry_run_of_reencrypt_makes_no_data_key(notes: Notes):
    """It is for looking: the role may not even be allowed to."""
    with notes.kms.expect(unwrap=1):
        report = reencrypt(notes.engine, notes.metadata, columns=TEXT, dry_run=True)

    assert report.counts.rewritten == 27


@on("sqlite")
@pytest.mark.parametrize("job", [rewrap, reencrypt])
def test_a_row_whose_scope_is_of_no_kind_fails_alone(notes: Notes, job):
    """SQLite stores text in an integer column; no value can be bound to that."""
    columns = ["kmsenv_rewrap_notes.secret"]
    with notes.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kmsenv_rewrap_notes SET tenant = 'no int' WHERE id = 2")
    notes.key.rotate()

    report = job(notes.engine, notes.metadata, columns=columns)

    assert (report.counts.rewritten, report.counts.failed) == (29, 1)
    assert [(f.row, f.error) for f in report.columns[0].failures] == [(("2",), "WrongCellError")]


@on("sqlite")
def test_a_row_that_cannot_be_bound_as_the_model_says_now_fails_alone(notes: Notes):
    """It opens as it was bound before; rows behind it on the page are served."""
    with notes.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kmsenv_rewrap_notes SET tenant = 'no int' WHERE id = 2")
    metadata = MetaData()
    Table(
        notes.table.name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer, nullable=False),
        Column("text", Encrypted(String, scope=["tenant"])),
    )
    attach_keyrings(metadata, default=Keyring(notes.kms))

    report = reencrypt(notes.engine, metadata, former=FormerBinding(scope="column"))

    assert (report.counts.rewritten, report.counts.failed) == (26, 1)
    assert report.columns[0].failures[0].row == ("2",)
