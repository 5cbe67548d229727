"""``kmsenv doctor``: what is printed, and the exit codes."""

import io
import json

import pytest
from rich.console import Console
from sqlalchemy import text

from sqlalchemy_kmsenv.access import Answer, Check
from sqlalchemy_kmsenv.cli.doctor import _table
from tests.cli.streams import run_apart
from tests.conftest import on


def run(*options):
    """The command, in this process."""
    return run_apart("doctor", *options)


def test_all_yes_is_exit_code_0(world):
    """A deployment stops at anything else."""
    result = run(*world.about)

    assert result.exit_code == 0, result.stdout + result.stderr
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert {line[0] for line in lines} == {"yes"}
    assert {len(line) for line in lines} == {4}
    assert "0 answered no" in result.stderr


def test_any_no_is_exit_code_1_and_is_said(world):
    """In a line of its own, with the reason."""
    world.kms.disable()

    result = run(*world.about, "--json")

    assert result.exit_code == 1
    answers = json.loads(result.stdout)
    assert answers["passed"] is False
    enabled = next(one for one in answers["checks"] if one["question"] == "key enabled")
    assert (enabled["answer"], enabled["detail"]) == ("no", "Disabled")


def test_role_decides_what_is_asked(world):
    """An auditor's credentials need none of the permissions."""
    auditor = run(*world.about, "--role", "auditor")
    rewrap = run(*world.about, "--role", "rewrap")

    assert (auditor.exit_code, rewrap.exit_code) == (0, 0)
    assert "may " not in auditor.stdout
    assert "may wrap data keys anew" in rewrap.stdout


def test_plaintext_is_counted_and_not_shown(world):
    """The terminal of an operator is no place for it."""
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE cli_pings SET note = :raw"), {"raw": b"canary"})

    result = run(*world.about)

    assert result.exit_code == 1
    assert "12 are not, of the 12 that were looked at" in result.stdout
    assert "canary" not in result.stdout + result.stderr


@on("sqlite")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--metadata", "tests.cli.models:Nothing"), "no attribute"),
        (("--metadata", "tests.nowhere:Base"), "there is no module"),
        (("--metadata", "tests.cli.models:NUMBER"), "is an object of type int; name a MetaData"),
        (("--metadata", "tests.cli.models:PLAIN"), "has no encrypted column"),
        (("--metadata", "tests.cli.models:NOTHING"), "no table at all"),
        (("--metadata", "tests.cli.models:Other"), "uses keyring 'billing'"),
        (("--url", "nonsense"), "no SQLAlchemy URL"),
        (("--role", "king"), "king"),
    ],
)
def test_what_cannot_be_examined_is_exit_code_2(world, options, words):
    """Never yes, where the wrong thing was looked at."""
    result = run(*world.about, *options)

    assert result.exit_code == 2
    assert words in result.stderr


def test_table_on_a_terminal_shows_names_as_they_are():
    """A name with brackets is no markup, and its row must not lose them."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)

    console.print(_table([Check("pings[bold].x", "key enabled", Answer.NO, "[red]Disabled[/]")]))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text_ in ("no", "pings[bold].x", "key enabled", "[red]Disabled[/]"):
        assert text_ in shown
