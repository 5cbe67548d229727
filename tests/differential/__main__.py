"""Runs SQLAlchemy's own ORM tests as they are and with encrypted columns, and compares.

    python -m tests.differential                       # all of them, two rounds
    python -m tests.differential test/orm/dml -k bulk  # some; arguments go to pytest
    python -m tests.differential --dburi URL test/orm  # on another database than SQLite

The tests come with SQLAlchemy's source distribution of the version that is installed. What fails
with encryption alone must be a refusal that ``refusals.txt`` holds, or a test that
``accepted.txt`` names with its reason; anything else is a fault, and fails the run.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

from tests.differential.plugin import ENCRYPT, EXCLUDED, RESULTS

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".suite"
TESTS = ("test/orm", "test/ext")
OUR_ERRORS = re.compile(
    r"(UnboundValue|InvalidValue|Configuration|IncompleteTable|Envelope|WrongCell|Audit"
    r"|KeyService\w*|KeyState|KmsEnv)Error: "
)
_NO_WARNING = re.compile("AssertionError: Warnings were not seen")
_COLUMN = re.compile(r"\b[a-z]\w*\.([a-z]\w*)(?!\.?\w)", re.IGNORECASE)
# Our plug-in for pytest imports SQLAlchemy before SQLAlchemy's own may rewrite it.
_OPTIONS = (
    *("-p", "no:kmsenv", "-p", "tests.differential.plugin", "-p", "no:cacheprovider"),
    *("-q", "--tb=no", "--maxfail=1000000", "--no-header", "-r", "N", "--timeout=300"),
)
_FILES_IN_A_PROCESS = 5
_MOST_ROUNDS = 5
_MOST_SHOWN = 50
_AFTERMATH = "come after a refusal in the set-up of their class"

Outcomes = dict[str, dict[str, Any]]
Rules = list[tuple[re.Pattern[str], str]]


@dataclass(slots=True)
class Run:
    """What one run wrote down: of each test, and of each column that was defined."""

    outcomes: Outcomes = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def passed(self) -> set[str]:
        return {name for name, found in self.outcomes.items() if found["outcome"] == "passed"}


@dataclass(slots=True)
class Verdict:
    """What the encrypted runs say of the tests that pass as they are."""

    refusals: Rules
    acceptable: Rules
    broken_set_ups: set[str] = field(default_factory=set)
    passed: int = 0
    at_work: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Count one test."""
        if found["outcome"] == "passed":
            self.passed += 1
            self.at_work += found["values"] > 0
        elif found["outcome"] != "failed":
            self.faults[name] = found["outcome"]
        elif (refusal := _refusal(found)) and (reason := _matching(self.refusals, refusal)):
            self.refused[reason] += 1
        elif found["when"] == "setup" and _class_of(name) in self.broken_set_ups and not refusal:
            self.refused[_AFTERMATH] += 1
        elif reason := _matching(self.acceptable, f"{name} | {found['chain'][0]}"):
            self.accepted[reason] += 1
        else:
            self.faults[name] = f"{found['at']}: {refusal or found['chain'][0]}"


def main(arguments: Sequence[str]) -> int:
    """Run both, and again what was refused; print the tables."""
    source = _source()
    plain = _run(source, "plain", arguments, {})
    encrypted = _run(source, "encrypted", arguments, {ENCRYPT: "1"})
    status = _print("every column", plain, encrypted)
    left_plain: set[tuple[str, str]] = set()
    latest = encrypted
    for again in range(1, _MOST_ROUNDS):
        # What a refusal hid: the columns that these classes compare in SQL stay plain.
        refused = _refused_columns(latest, left_plain)
        if not refused:
            break
        left_plain |= refused
        file = WORK / f"left-plain-{again}.json"
        file.write_text(json.dumps(sorted(left_plain)))
        options = [each for each in arguments if not _is_path(source, each)]
        files = sorted({tests.partition("::")[0] for tests, _ in refused})
        known = {ENCRYPT: "1", EXCLUDED: str(file)}
        latest = _run(source, f"encrypted-again-{again}", [*options, *files], known)
        encrypted.outcomes.update(latest.outcomes)
        encrypted.columns.update(latest.columns)
    return status | _print("columns that are not refused", plain, encrypted)


def _source() -> Path:
    """SQLAlchemy's source distribution, fetched once."""
    name = f"sqlalchemy-{sqlalchemy.__version__}"
    WORK.mkdir(exist_ok=True)
    if (found := _named(name)) is None:
        command = ["-m", "pip", "download", "-qq", "--no-deps", "--no-binary", "sqlalchemy"]
        wanted = ["-d", str(WORK), name.replace("-", "==")]
        subprocess.run([sys.executable, *command, *wanted], check=True)
        fetched = _named(f"{name}.tar.gz")
        assert fetched is not None
        with tarfile.open(fetched) as archive:
            archive.extractall(WORK, filter="data")
        found = _named(name)
        assert found is not None
    return found


def _named(name: str) -> Path | None:
    return next((path for path in WORK.iterdir() if path.name.lower() == name), None)


def _run(source: Path, name: str, chosen: Sequence[str], extra: dict[str, str]) -> Run:
    """Run a few files in a process: what crashes or hangs ends these alone."""
    print(f"running SQLAlchemy's tests, {name} ...", flush=True)
    paths = [each for each in chosen if _is_path(source, each)]
    options = [each for each in chosen if each not in paths]
    results = WORK / f"{sqlalchemy.__version__}-{name}.jsonl"
    results.unlink(missing_ok=True)
    environment = {**os.environ, RESULTS: str(results), "PYTHONPATH": str(ROOT), **extra}
    # Without the user's packages SQLAlchemy's conftest.py takes the SQLAlchemy that is installed.
    pytest = [sys.executable, "-s", "-m", "pytest", *_OPTIONS, *options]
    with results.with_suffix(".log").open("w") as log:
        for some in _groups(source, paths or TESTS):
            subprocess.run(
                [*pytest, *some], cwd=source, env=environment, stdout=log, stderr=log, check=False
            )
    if not results.exists():
        sys.exit(f"the run ended without results; see {results.with_suffix('.log')}")
    return _read(results)


def _is_path(source: Path, argument: str) -> bool:
    return (source / argument.partition("::")[0]).exists()


def _groups(source: Path, paths: Iterable[str]) -> Iterator[Sequence[str]]:
    files: list[str] = []
    for path in paths:
        below = sorted((source / path).rglob("test_*.py"), key=lambda each: (each.parent, each))
        files += [str(each.relative_to(source)) for each in below] or [path]
    by_file = [list(some) for _, some in itertools.groupby(files, lambda each: each.split("::")[0])]
    for at in range(0, len(by_file), _FILES_IN_A_PROCESS):
        yield list(itertools.chain(*by_file[at : at + _FILES_IN_A_PROCESS]))


def _read(results: Path) -> Run:
    run = Run()
    for line in results.read_text().splitlines():
        kind, name, what = json.loads(line)
        (run.outcomes if kind == "test" else run.columns)[name] = what
    return run


def _refused_columns(run: Run, known: AbstractSet[tuple[str, str]]) -> set[tuple[str, str]]:
    """The columns that refusals name, for each class of tests."""
    found = {
        (_class_of(name), column[0], column[1])
        for name, outcome in run.outcomes.items()
        for column in _COLUMN.finditer(_refusal(outcome) or "")
    }
    # A name that did not help is that of an alias; each column of that name stays plain.
    return {
        (tests, column if (tests, name) in known else name) for tests, name, column in found
    } - known


def _verdict(plain: Run, encrypted: Run) -> Verdict:
    verdict = Verdict(_rules("refusals.txt"), _rules("accepted.txt"))
    verdict.broken_set_ups = {
        _class_of(name)
        for name, found in encrypted.outcomes.items()
        if found.get("when") == "setup" and _refusal(found)
    }
    for name in plain.passed():
        verdict.add(name, encrypted.outcomes.get(name, {"outcome": "not run"}))
    return verdict


def _refusal(outcome: dict[str, Any]) -> str | None:
    """The refusal of this library that a test failed with, if it was one."""
    errors = (error for error in outcome.get("chain", ()) if not _NO_WARNING.match(error))
    first = next(errors, "")
    return first if OUR_ERRORS.match(first) else None


def _rules(name: str) -> Rules:
    """Lines of ``reason = pattern``; the order is that of the file."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    pairs = [line.partition(" = ") for line in lines if line and not line.startswith("#")]
    return [(re.compile(pattern, re.DOTALL), reason) for reason, _, pattern in pairs]


def _matching(rules: Rules, text: str) -> str | None:
    return next((reason for pattern, reason in rules if pattern.search(text)), None)


def _class_of(nodeid: str) -> str:
    return nodeid.rpartition("::")[0]


def _print(title: str, plain: Run, encrypted: Run) -> bool:
    verdict = _verdict(plain, encrypted)
    print(f"\n{title}: of {len(plain.passed()):,} tests that pass as they are")
    print(
        f"{verdict.passed:7,} pass with encrypted columns; {verdict.at_work:,} seal or open values"
    )
    for what, counts in (
        ("are refused by design", verdict.refused),
        ("ask for what encryption changes by design", verdict.accepted),
    ):
        print(f"{counts.total():7,} {what}")
        _print_most_common(counts)
    print(f"{len(verdict.faults):7,} faults")
    for name, what in sorted(verdict.faults.items())[:_MOST_SHOWN]:
        print(f"    {name}\n        {what[:300]}")
    columns = Counter(what.partition(":")[0] for what in encrypted.columns.values())
    number = columns.pop("encrypted", 0)
    tables = {
        name.rpartition(".")[0] for name, what in encrypted.columns.items() if what == "encrypted"
    }
    print(f"{number:7,} columns of {len(tables):,} tables were encrypted; plain stayed what")
    _print_most_common(columns)
    return bool(verdict.faults)


def _print_most_common(counts: Counter[str]) -> None:
    for what, count in counts.most_common():
        print(f"{count:13,} {what}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
