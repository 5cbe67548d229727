"""What SQLite keeps in a column of any type: one planted cell must not take a job away."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy import Column, Date, MetaData, String, Table, insert, select, text

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, attach_keyrings
from sqlalchemy_kmsenv.rewrap import reencrypt, rewrap, survey, verify
from tests.conftest import on
from tests.rewrap.conftest import Notes

NO_UTF8 = "CAST(x'e50101ff' AS TEXT)"


def plant(notes: Notes, sql: str) -> None:
    """Store something else in one cell."""
    with notes.engine.begin() as connection:
        connection.execute(text(f"UPDATE {notes.table.name} SET text = {sql} WHERE id = 1"))


@on("sqlite")
@pytest.mark.parametrize("sql", [NO_UTF8, f"{NO_UTF8} || char(0) || 'x'", "7", "'plain'"])
def test_a_cell_that_is_no_bytes_is_one_row_of_the_report(notes: Notes, sql):
    """The driver raised for the whole page, and verify had nothing to say of the others."""
    plant(notes, sql)
    notes.key.rotate()

    for job in (verify, rewrap, reencrypt):
        report = job(notes.engine, notes.metadata)
        assert report.complete
        assert (report.counts.not_envelopes, report.counts.failed) == (1, 0)
    counted = survey(notes.engine, notes.metadata)
    assert sum(each.not_envelopes for each in counted.columns) == 1


@on("sqlite")
def test_an_envelope_that_is_called_text_is_wrapped_anew(notes: Notes):
    """It would have stayed under the old key, in a report that is ok."""
    plant(notes, "CAST(text AS TEXT)")
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata)

    assert (report.ok, report.counts.changed) == (True, 0)
    assert survey(notes.engine, notes.metadata).ok
    with notes.engine.connect() as connection:
        assert connection.scalar(select(notes.table.c.text).where(notes.table.c.id == 1))


@on("sqlite")
@pytest.mark.parametrize(
    ("column", "sql"), [("day", "'2026-13-01'"), ("day", "5"), ("name", NO_UTF8)]
)
def test_a_key_that_python_lacks_ends_a_job_in_words(column, sql, engine, keyring):
    """SQLAlchemy and the driver have errors of their own for it."""
    metadata = MetaData()
    table = Table(
        "kmsenv_odd_keys",
        metadata,
        Column("name", String, primary_key=True),
        Column("day", Date, primary_key=True),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    row: dict[str, Any] = {"name": "a", "day": datetime.date(2026, 1, 1), "v": "x"}
    with engine.begin() as connection:
        connection.execute(insert(table), row)
        connection.execute(text(f"UPDATE {table.name} SET {column} = {sql}"))
    try:
        if column == "day":
            with pytest.raises(ConfigurationError, match="no value of its type"):
                verify(engine, metadata)
        else:
            stopped = verify(engine, metadata).stopped
            assert stopped
            assert "the database failed" in stopped
    finally:
        metadata.drop_all(engine)
