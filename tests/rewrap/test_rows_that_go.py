"""Rows that go, or change, between two looks at them; and drivers that count nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, text

from sqlalchemy_kmsenv import Keyring, attach_keyrings
from sqlalchemy_kmsenv.rewrap import reencrypt, rewrap, survey, verify
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes, make_notes, text_of

TEXT = ["kmsenv_rewrap_notes.text"]


class LongWrapping(Interfering):
    """A key service whose wrapped data keys do not fit into what is read of a value at first."""

    def __init__(self, kms: Any) -> None:
        super().__init__(kms, lambda _: None)
        self.generate_data_key = self.generate_long

    def generate_long(self, context: Any) -> Any:
        """As the other, and 5,000 bytes more."""
        made = self._kms.generate_data_key(context)
        return replace(made, wrapped=made.wrapped + bytes(5000))


@contextmanager
def before_the_second_look(engine: Engine, statement: str) -> Iterator[list[str]]:
    """Let something happen as soon as a page has been read."""
    done: list[str] = []
    other = create_engine(engine.url)

    def meanwhile(_conn: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("SELECT") and "ORDER BY" in sql and not done:
            done.append("read")
        elif done == ["read"]:
            done.append(statement)
            with other.begin() as connection:
                connection.execute(text(statement))

    event.listen(engine, "before_cursor_execute", meanwhile)
    yield done
    event.remove(engine, "before_cursor_execute", meanwhile)
    other.dispose()


@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET text = NULL"])
def test_a_row_with_a_long_header_that_goes_before_it_is_read_again(notes: Notes, change):
    """What was read at first decides: it is no envelope as far as that goes, and nothing breaks."""
    attach_keyrings(notes.metadata, default=Keyring(LongWrapping(notes.key)))
    notes.fill(3, start=100)
    statement = f"{change.format(notes.table.name)} WHERE id = 100"

    with before_the_second_look(notes.engine, statement) as done:
        report = survey(notes.engine, notes.metadata, columns=TEXT)

    [found] = report.columns
    assert statement in done
    assert (found.envelopes, found.not_envelopes, found.null) == (29, 1, 3)
    assert [failure.row for failure in found.failures] == [("100",)]


@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET text = NULL"])
def test_a_large_value_that_goes_before_it_is_read_counts_as_none(notes: Notes, change):
    """It was somebody's to delete; no failure, and no end of the job."""
    with notes.engine.begin() as connection:
        large = notes.table.update().where(notes.table.c.id == 4)
        connection.execute(large.values(text="x" * 20_000))
    statement = f"{change.format(notes.table.name)} WHERE id = 4"

    with before_the_second_look(notes.engine, statement) as done:
        report = verify(
            notes.engine, notes.metadata, columns=TEXT, preflight=False, count_rows=False
        )

    assert statement in done
    assert report.ok
    assert (report.counts.opened, report.counts.null) == (26, 4)


def test_a_page_takes_as_many_statements_however_many_rows_it_has(notes: Notes):
    """Rows of one data key are written together, and the database counts them."""
    seen: list[str] = []

    def remember(_conn: Any, _cursor: Any, sql: str, *_: Any) -> None:
        seen.append(sql)

    counts = []
    notes.fill(270, start=30)
    # Makes the table that the others find.
    assert rewrap(notes.engine, notes.metadata, columns=TEXT).ok
    for rows in (300, 30):
        with notes.engine.begin() as connection:
            connection.execute(notes.table.delete().where(notes.table.c.id >= rows))
        notes.key.rotate()
        event.listen(notes.engine, "before_cursor_execute", remember)
        assert rewrap(notes.engine, notes.metadata, columns=TEXT, preflight=False).ok
        event.remove(notes.engine, "before_cursor_execute", remember)
        counts.append(len(seen))
        seen.clear()

    assert counts[0] == counts[1]


class UncountingCursor(sqlite3.Cursor):
    """A cursor that cannot tell how many rows a statement hit, as DB-API 2 allows."""

    @property
    def rowcount(self) -> int:
        """Not known."""
        return -1


class UncountingConnection(sqlite3.Connection):
    """A connection with such cursors."""

    def cursor(self, factory: Any = None) -> Any:
        """One of them."""
        return super().cursor(UncountingCursor)


@on("sqlite")
@pytest.mark.parametrize("job", [rewrap, reencrypt])
@pytest.mark.parametrize("batch_size", [4, 1000])
def test_a_driver_that_knows_of_no_count_is_not_believed(
    database, local_kms, tmp_path, job, batch_size
):
    """Rows that were served would look as if they were not."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'test.db'}", connect_args={"factory": UncountingConnection}
    )
    notes = make_notes(engine, MetaData(), local_kms)
    notes.fill(30)
    local_kms.rotate()

    report = job(engine, notes.metadata, batch_size=batch_size)

    assert report.ok
    assert (report.counts.rewritten, report.counts.changed) == (57, 0)
    assert notes.texts() == {n: text_of(n) for n in range(30)}
    engine.dispose()
