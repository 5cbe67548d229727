"""Signals, checkpoints and going on: in processes of their own, on PostgreSQL."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.cli.conftest import TENANTS, run, run_json, start, words
from tests.cli.models import Ping
from tests.conftest import on

SLOW = ("--batch-size", 10, "--rows-per-second", 100)
COLUMN = ("--column", "cli_pings.position")
ROWS = len(TENANTS) * (6 + 100)


@pytest.fixture
def many(world):
    """Enough rows for a job of some seconds at the pace of ``SLOW``, all of them due."""
    world.store(range(100, 200))
    world.kms.rotate()
    return world


def rows_kept(path: Path) -> int:
    """How many rows a checkpoint says are done; 0 while there is none."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return 0
    partitions = [part for column in document["columns"].values() for part in column]
    return sum(part["counts"]["rows"] for part in partitions)


def waits_for_a_lock(engine):
    """Whether somebody waits for a lock in this database."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect() as connection:
        return connection.scalar(query) > 0


def read_until(process, phrase):
    """Return when a line of the process's standard error has the phrase."""
    assert any(phrase in line for line in process.stderr)


def wait_until(condition):
    """Return when ``condition`` holds; it must within half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@on("postgresql")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_stops_after_the_page_in_hand_and_resume_goes_on(number, many):
    """Ctrl-C, and what a scheduler sends: no page is lost, none is done twice."""
    checkpoint = Path("job.json")
    kept = ("--checkpoint", checkpoint)
    process = start("rewrap", *many.about, *COLUMN, *SLOW, *kept, "--json")
    wait_until(lambda: rows_kept(checkpoint) >= 30)

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    stopped = json.loads(out)
    done = stopped["columns"][0]["counts"]["rows"]
    assert process.returncode == 1
    assert "Stopping after the page in hand" in err
    assert stopped["stopped"] == "it was asked to stop"
    assert stopped["checkpoint"] == str(checkpoint)
    assert 30 <= done < ROWS
    assert rows_kept(checkpoint) == done

    refused = run("rewrap", *many.about, *COLUMN, *kept)
    code, report = run_json("rewrap", *many.about, *COLUMN, *kept, "--resume")

    assert refused.exit_code == 2
    assert "Go on with --resume, or remove the file" in words(refused.stderr)
    counts = report["columns"][0]["counts"]
    assert (code, counts["rows"], counts["rewritten"]) == (0, ROWS, ROWS)
    assert report["checkpoint"] is None
    assert not checkpoint.exists()


@on("postgresql")
def test_second_signal_stops_at_once(many):
    """A page that waits for a locked table must not hold an operator."""
    with many.engine.begin() as connection:
        table = Ping.__tablename__
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        process = start("rewrap", *many.about, *COLUMN)
        wait_until(lambda: waits_for_a_lock(many.engine))

        process.send_signal(signal.SIGINT)
        read_until(process, "stops at once")
        still_waiting = process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)

    assert still_waiting
    assert process.returncode == 128 + signal.SIGINT
    assert run("rewrap", *many.about, *COLUMN, "--resume").exit_code == 0


@on("postgresql")
def test_survey_can_be_stopped_too(many):
    """Numbers of a part of the rows must not pass for all of them."""
    process = start("survey", *many.about, *COLUMN, "--batch-size", 2, "--rows-per-second", 10)
    read_until(process, "rows")

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "Stopped before the last row" in out


@on("sqlite")
def test_checkpoint_of_another_job_is_refused(world):
    """Its place in one table says nothing about another."""
    stop_in_the_middle(world, "job.json", "verify")

    result = run("rewrap", *world.about, "--checkpoint", "job.json", "--resume")

    assert result.exit_code == 2
    assert "the checkpoint is of another job" in words(result.stderr)


@on("sqlite")
def test_default_checkpoint_is_named_after_the_job(world):
    """Two jobs in one directory must not take each other's place."""
    names = {
        stop_in_the_middle(world, None, "rewrap"),
        stop_in_the_middle(world, None, "verify"),
        stop_in_the_middle(world, None, "verify", "--column", "cli_pings.note"),
    }

    assert len(names) == 3
    assert all(name.startswith(("kmsenv-rewrap-test-", "kmsenv-verify-test-")) for name in names)
    assert len(set(Path.cwd().glob("*.json"))) == 3


@on("sqlite")
def test_resume_without_a_checkpoint_begins_and_says_so(world):
    """The same command line is right at the first start and after a crash."""
    result = run("rewrap", *world.about, "--resume")

    assert result.exit_code == 0
    assert "the job begins at the first row" in words(result.stderr)


@on("sqlite")
def test_checkpoint_in_no_directory_is_refused(world):
    """To be found out before the first row, not after the first page."""
    result = run("rewrap", *world.about, "--checkpoint", "gone/job.json")

    assert result.exit_code == 2
    assert "there is no directory gone" in words(result.stderr)


@on("sqlite")
def test_dry_run_keeps_no_checkpoint(world):
    """It has nothing to go on with."""
    run("rewrap", *world.about, "--dry-run", "--checkpoint", "job.json")

    assert list(Path.cwd().iterdir()) == []


def stop_in_the_middle(world, path, command, *options):
    """Let a process begin a job and be killed; the name of its checkpoint."""
    before = set(Path.cwd().glob("*.json"))
    given = ("--checkpoint", path) if path else ()
    slow = ("--batch-size", 1, "--rows-per-second", 1)
    process = start(command, *world.about, *slow, *given, *options)
    wait_until(lambda: any(map(rows_kept, set(Path.cwd().glob("*.json")) - before)))
    process.kill()
    process.communicate(timeout=30)
    [made] = set(Path.cwd().glob("*.json")) - before
    return made.name


@on("sqlite")
def test_signals_are_given_back_after_a_command(world):
    """A program that calls a command keeps its own Ctrl-C, and no thread stays behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    run("survey", *world.about)
    run("survey", "--url", "sqlite://", "--metadata", "gone:Base")

    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert "kmsenv-signals" not in {thread.name for thread in threading.enumerate()}
