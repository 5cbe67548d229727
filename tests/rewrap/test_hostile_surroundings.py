"""Files, tables and keys of other people's making around a job."""

from __future__ import annotations

import io
import os
import stat
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Column, MetaData, String, Table, insert, make_url, select, text

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Keyring,
    LocalKms,
    WrongCellError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.cli.database import shown_url
from sqlalchemy_kmsenv.cli.tables import show_report
from sqlalchemy_kmsenv.printable import printable
from sqlalchemy_kmsenv.rewrap import (
    CheckpointError,
    JobSource,
    PreflightError,
    TableCheckpoint,
    rewrap,
    verify,
)
from tests.rewrap.conftest import Notes

EVIL = "\x1b[2J\x1b[32mEvery value opens.\x1b[0m\n2026-11-25 CRITICAL root logged in\u202e"


def stopping(pages: int = 1) -> dict[str, Any]:
    """Options that stop a job after so many pages."""
    seen: list[int] = []
    return {"should_stop": lambda: len(seen) >= pages, "on_progress": lambda _: seen.append(0)}


@pytest.mark.parametrize("name", ["job.json", "job.json.new", "job.json.lock"])
def test_a_checkpoint_follows_no_symbolic_link(notes: Notes, tmp_path, name):
    """Whoever may write to its directory must not choose which file the operator overwrites."""
    victim = tmp_path / "precious"
    victim.write_text("precious")
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / name).symlink_to(victim)
    options = {"checkpoint": directory / "job.json", "batch_size": 4, **stopping()}

    if name.endswith(".new"):
        verify(notes.engine, notes.metadata, **options)
    else:
        with pytest.raises(CheckpointError):
            verify(notes.engine, notes.metadata, **options)

    assert victim.read_text() == "precious"


def test_a_checkpoint_is_its_owners_alone(notes: Notes, tmp_path):
    """It names rows by primary key, and a job believes what it says."""
    path = tmp_path / "job.json"
    before = os.umask(0)
    try:
        verify(notes.engine, notes.metadata, checkpoint=path, batch_size=4, **stopping())
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if "job" in each.name] == ["job.json"]
    path.chmod(0o666)
    with pytest.raises(CheckpointError, match="this user alone"):
        verify(notes.engine, notes.metadata, checkpoint=path)


def test_verify_takes_no_checkpoint_from_the_database_it_verifies(notes: Notes):
    """A planted row would end it with ok before the first value."""
    with pytest.raises(ConfigurationError, match="give a file"):
        verify(notes.engine, notes.metadata, checkpoint=TableCheckpoint())


@pytest.mark.parametrize("kept", ["file", "table"])
def test_two_jobs_do_not_share_a_checkpoint(notes: Notes, tmp_path, kept, checkpoint_table):
    """They would write over each other how far they are."""
    notes.key.rotate()
    checkpoint: Any = tmp_path / "job.json" if kept == "file" else TableCheckpoint()
    refused: list[BaseException] = []

    def second(_: object) -> None:
        def run() -> None:
            try:
                rewrap(notes.engine, notes.metadata, checkpoint=checkpoint)
            except CheckpointError as error:
                refused.append(error)

        if not refused:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    first = rewrap(
        notes.engine, notes.metadata, checkpoint=checkpoint, batch_size=10, on_progress=second
    )

    assert first.ok
    assert "another job is at work" in str(refused[0])
    assert rewrap(notes.engine, notes.metadata, checkpoint=checkpoint).ok


def test_keys_of_rows_give_no_orders(engine, metadata, keyring):
    """A text key with escape sequences forged lines of a log and cleared the operator's screen."""
    table = Table(
        "people",
        metadata,
        Column("name", String(200), primary_key=True),
        Column("s", Encrypted(String)),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    attach_keyrings(metadata, default=keyring)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"name": "a", "s": "x"}, {"name": EVIL, "s": "y"}])
        raw = connection.execute(text("SELECT s FROM people WHERE name = 'a'")).scalar()
        connection.execute(text("UPDATE people SET s = :raw"), {"raw": raw})
        with pytest.raises(WrongCellError) as caught:
            connection.execute(select(table.c.s)).all()
    out = io.StringIO()

    report = verify(engine, metadata)
    show_report(Console(file=out, force_terminal=True, width=200), report)

    shown = [str(caught.value), *report.columns[0].failures[0].row]
    shown.append(report.columns[0].failures[0].message)
    assert all(each.isprintable() and "CRITICAL" in each for each in shown)
    assert "\x1b[2J" not in out.getvalue()
    assert "\u202e" not in out.getvalue()


@pytest.mark.parametrize("code", [*range(32), 0x7F, 0x85, 0x9B, 0x2028, 0x202E, 0xD800, 0xE0001])
def test_no_control_character_is_shown(code):
    """One function does it, for every place that shows what a database holds."""
    made = printable(f"a{chr(code)}b")

    assert made.isprintable()
    assert made != "ab"
    assert printable("Zoë 日本 \\n") == "Zoë 日本 \\n"


def test_a_password_in_the_query_of_a_url_is_not_shown():
    """Drivers take it there by names of their own, ODBC inside of a value."""
    url = make_url("mssql+pyodbc://u:secret1@/?odbc_connect=PWD%3Dsecret2&password=secret3&host=h")

    assert "secret" not in shown_url(url)
    assert "host=h" in shown_url(url)


def test_a_key_of_another_service_is_refused_before_the_first_row(notes: Notes, tmp_path):
    """Each row had failed with the error of tampering; what does it is another job."""
    other = LocalKms.create(tmp_path / "other.json")

    class Elsewhere:
        """The key service of another cloud: its ARN says so."""

        def __init__(self) -> None:
            self.rewrap, self.generate_data_key = other.rewrap, other.generate_data_key
            self.unwrap, self.would_generate = other.unwrap, other.would_generate
            self.would_unwrap, self.would_rewrap = other.would_unwrap, other.would_rewrap

        def resolve(self) -> str:
            return other.resolve().replace("arn:aws:kms:local", "arn:aws:kms:eu-central-1")

        def describe(self) -> Any:
            return replace(other.describe(), arn=self.resolve())

    attach_keyrings(notes.metadata, default=Keyring(Elsewhere(), unwrap_only=[notes.key]))

    with pytest.raises(PreflightError, match="reencrypt"):
        rewrap(notes.engine, notes.metadata)

    report = rewrap(notes.engine, notes.metadata, preflight=False, give_up_after=1000)
    assert {failure.error for failure in report.columns[0].failures} == {"RouteError"}
    there = f"from {notes.key.resolve()} to {Elsewhere().resolve()}:"
    assert all(there in failure.message for failure in report.columns[0].failures)


def test_a_lost_worker_process_ends_in_a_report(notes: Notes, tmp_path):
    """The operator got a traceback, and not how far the job was."""
    source = JobSource(metadata="tests.rewrap.test_hostile_surroundings:die", url="sqlite://")
    path = tmp_path / "job.json"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        report = rewrap(notes.engine, notes.metadata, executor=pool, source=source, checkpoint=path)

    assert not report.complete
    assert report.stopped
    assert "BrokenProcessPool" in report.stopped
    assert path.exists()


def die() -> MetaData:
    """What a worker without memory does."""
    os._exit(1)
