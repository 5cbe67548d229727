"""Checkpoints that somebody else wrote, or altered: refused in words, and shown as text."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import text

from sqlalchemy_kmsenv import ConfigurationError
from sqlalchemy_kmsenv.cli.tables import show_report
from sqlalchemy_kmsenv.rewrap import CheckpointError, TableCheckpoint, rewrap, verify
from tests.rewrap.conftest import Notes
from tests.rewrap.test_checkpoints import stop_after

TABLE = TableCheckpoint(job="planted")
EVIL = "\x1b[2Jok\n2026-11-25 CRITICAL root logged in"
FAILURE = {"row": ["1"], "error": "E", "message": "m", "finding": ""}


def begun(notes: Notes) -> dict[str, Any]:
    """How far the first partition of a job is that was stopped after a page."""
    notes.key.rotate()
    rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=TABLE, **stop_after(1))
    with notes.engine.connect() as connection:
        query = text("SELECT state FROM kmsenv_checkpoints WHERE part = 0 ORDER BY column_name")
        found: dict[str, Any] = json.loads(connection.scalars(query).first() or "")
    return found


def plant(notes: Notes, state: str, part: int = 0) -> None:
    """Put something else in its place."""
    query = text("UPDATE kmsenv_checkpoints SET state = :state WHERE part = :part")
    with notes.engine.begin() as connection:
        connection.execute(query, {"state": state, "part": part})


PLANTED: dict[str, Any] = {
    "a decimal that is none": {"after": [["decimal", "x"]]},
    "a uuid that is no text": {"after": [["uuid", 5]]},
    "a float too large": {"after": [["float", "0x1p99999"]]},
    "a bool that is none": {"after": [["bool", "x"]]},
    "another spelling": {"after": [["int", "+5"]]},
    "a number that is infinite": {"number": float("inf")},
    "counts that are text": {"counts": {"rows": "x"}},
    "counts that are NULL": {"counts": {"rows": None}},
    "counts below zero": {"counts": {"rows": -99}},
    "counts that are a list": {"counts": []},
    "a failure of another form": {"failures": [{**FAILURE, "message": {}}]},
    "a row of another form": {"failures": [{**FAILURE, "row": [["1"]]}]},
    "finished that is text": {"finished": "x"},
}


@pytest.mark.parametrize("change", PLANTED.values(), ids=PLANTED)
def test_what_no_job_wrote_is_refused_in_words(notes: Notes, checkpoint_table, change):
    """A traceback tells the operator nothing, and a guess could leave rows out."""
    plant(notes, json.dumps({**begun(notes), **change}))

    with pytest.raises(CheckpointError, match="no checkpoint that this release can read"):
        rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=TABLE)


@pytest.mark.parametrize("part", [0, -1])
def test_a_document_too_deep_is_refused_in_words(notes: Notes, checkpoint_table, tmp_path, part):
    """Python's reader gives up with an error of its own."""
    begun(notes)
    plant(notes, "[" * 20_000, part)
    path = tmp_path / "deep.json"
    path.write_text("[" * 20_000)

    for checkpoint in (TABLE, path):
        with pytest.raises(CheckpointError, match="no checkpoint that this release can read"):
            rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=checkpoint)


def test_a_secret_that_is_none_is_refused_in_words(notes: Notes, checkpoint_table):
    """It is what renewed headers are believed by."""
    begun(notes)
    with notes.engine.connect() as connection:
        job = json.loads(
            connection.scalar(text("SELECT state FROM kmsenv_checkpoints WHERE part = -1"))
        )
    plant(notes, json.dumps({**job, "secret": "none"}), -1)

    with pytest.raises(CheckpointError, match="secret"):
        rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=TABLE)


def test_words_of_a_checkpoint_give_no_orders(notes: Notes, checkpoint_table):
    """The report shows the failures of the run before, which the database kept."""
    failure = {"row": [EVIL], "error": EVIL, "message": EVIL, "finding": EVIL}
    plant(notes, json.dumps({**begun(notes), "failures": [failure]}))
    out = io.StringIO()

    report = rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=TABLE)
    show_report(Console(file=out, force_terminal=True, width=200), report)

    (shown,) = [f for each in report.columns for f in each.failures]
    assert all(
        words.isprintable() for words in (*shown.row, shown.error, shown.message, shown.finding)
    )
    assert "CRITICAL" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


def test_a_proof_takes_no_checkpoint_from_the_database_it_is_about(notes: Notes):
    """A planted row would end it with ok, and the old key would be disabled."""
    with pytest.raises(ConfigurationError, match="rewrap with verify_material takes no Table"):
        rewrap(notes.engine, notes.metadata, checkpoint=TABLE, verify_material=True)


def test_a_checkpoint_waits_for_no_pipe(notes: Notes, tmp_path):
    """Whoever may write to its directory could stop every job there."""
    path = tmp_path / "job.json"
    os.mkfifo(path, 0o600)

    with pytest.raises(CheckpointError, match="not a regular file"):
        verify(notes.engine, notes.metadata, checkpoint=path)


def test_a_path_that_no_file_can_have_is_refused(notes: Notes):
    """Python's own error names neither the option nor what to give."""
    with pytest.raises(ConfigurationError, match="give a path"):
        verify(notes.engine, notes.metadata, checkpoint="job\0.json")
