"""What goes where: documents and tables to standard output, progress to standard error."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

from sqlalchemy_kmsenv.cli.progress import Lines, state_of
from sqlalchemy_kmsenv.rewrap import Counts, Progress
from tests.cli.conftest import ROOT, run, start
from tests.conftest import on


def progress(rows, *, column="pings.position", total=1000, seconds=2.0, failed=0):
    """A job that is so far."""
    counts = Counts(rows=rows, failed=failed)
    return Progress("rewrap", column, counts, total, seconds, rows_this_run=rows)


def test_state_says_rows_rate_and_time_left():
    """The three questions of whoever waits."""
    assert state_of(progress(200)) == "200 of 1,000 rows, 100/s, 0:08 left"
    assert state_of(progress(1000, failed=3)) == "1,000 of 1,000 rows, 500/s, 3 failed"
    assert state_of(progress(1200)) == "1,200 of 1,200 rows, 600/s"
    assert state_of(progress(10, total=100_000)) == "10 of 100,000 rows, 5/s, 5:33:18 left"
    assert state_of(progress(50, total=None)) == "50 rows, 25/s"
    assert state_of(progress(0, seconds=0.0)) == "0 of 1,000 rows, 0/s"


def test_lines_come_every_few_seconds_and_at_the_end():
    """A log must neither drown nor end in the middle."""
    now, written = [0.0], list[str]()
    lines = Lines(written.append, clock=lambda: now[0])

    for second in range(1, 13):
        now[0] = float(second)
        lines(progress(second))
    lines(progress(7, column="pings.note"))
    lines.last()
    lines.last()

    assert [line.split(" rows")[0] for line in written] == [
        "pings.position: 5 of 1,000",
        "pings.position: 10 of 1,000",
        "pings.position: 12 of 1,000",
        "pings.note: 7 of 1,000",
    ]


@on("sqlite")
def test_json_is_the_only_thing_on_standard_output(world):
    """So that it can be piped into a program."""
    for command, code in (("survey", 1), ("rewrap", 0), ("reencrypt", 0), ("verify", 0)):
        process = start(command, *world.about, "--json")
        out, err = process.communicate(timeout=60)

        document = json.loads(out)
        assert process.returncode == code, err
        assert document["ok"] == (code == 0)
        assert "cli_pings.position: 12 of 12 rows" in err


@on("sqlite")
def test_what_the_application_prints_stays_out_of_the_document(world, tmp_path):
    """Modules greet, warn and debug when they are imported."""
    (tmp_path / "talking.py").write_text("print('hello')\nfrom tests.cli.models import Base\n")
    about = ("--url", world.url, "--metadata", "talking:Base", "--keyring", world.uri)

    process = start("survey", *about, "--json", path=tmp_path)
    out, err = process.communicate(timeout=60)

    assert json.loads(out)["ok"] is False
    assert "hello" in err


@on("sqlite")
def test_output_off_a_terminal_is_plain(world):
    """Logs and mails show no escape sequences."""
    result = run("survey", *world.about)

    assert "\x1b" not in result.output
    line = next(line for line in result.stderr.splitlines() if "cli_pings.note: 12 of 12" in line)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ cli_pings\.note: 12 of 12 rows", line)
    assert "12 of 12 rows" not in result.stdout


@on("sqlite")
def test_terminal_shows_a_bar(world):
    """A person wants to see that it moves."""
    master, slave = pty.openpty()
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "sqlalchemy_kmsenv.cli.main", "rewrap", *world.about],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": paths, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(slave)
    out, _ = process.communicate(timeout=60)
    shown = os.read(master, 100_000).decode()
    os.close(master)

    assert process.returncode == 0
    assert b"Every row is at the target." in out
    assert "━" in shown
    assert "12 of 12 rows" in shown


@on("sqlite")
def test_survey_has_a_bar_for_each_key_version(world):
    """Half rotated is to be seen at a glance."""
    result = run("survey", *world.about, "--column", "cli_pings.position")

    bars = [line for line in result.stdout.splitlines() if "━" in line]
    assert [line.split()[2:] for line in bars] == [
        ["2", "━━", "17", "target"],
        ["10", "━━━━━━━━━━", "83", "due"],
    ]
