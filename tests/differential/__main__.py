"""Runs SQLAlchemy's own ORM tests as they are and with encrypted columns, and compares.

    python -m tests.differential                       # all of them, two rounds
    python -m tests.differential test/orm/dml -k bulk  # some; arguments go to pytest

The tests come with SQLAlchemy's source distribution of the version that is installed. What fails
with encryption alone must be a refusal that ``refusals.txt`` holds, or a test that
``accepted.txt`` names with its reason; anything else is a fault, and fails the run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
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
_REFUSED_COLUMN = re.compile(r"\b(?P<table>[a-z]\w*?)(_\d+)?\.(?P<column>[a-z]\w*)", re.IGNORECASE)
_MOST_SHOWN = 50
_AFTERMATH = "come after a refusal in the set-up of their class"

Outcomes = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Verdict:
    """What the encrypted runs say of the tests that pass as they are."""

    passed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> int:
    """Run both, twice where columns were refused, and print the table."""
    source = _source()
    chosen = list(arguments) or list(TESTS)
    plain = _run(source, "plain", chosen, {})
    first = _run(source, "encrypted", chosen, {ENCRYPT: "1"})
    excluded = _refused_columns(first)
    again = sorted({name for name, _ in excluded})
    second: Outcomes = {}
    if again:
        # What a refusal hid: the columns that these classes compare in SQL stay plain.
        known = {ENCRYPT: "1", EXCLUDED: json.dumps(sorted(excluded))}
        second = _run(source, "encrypted again", chosen, known)
        second = {name: found for name, found in second.items() if _class_of(name) in set(again)}
    status = 0
    for title, outcomes in (("every column", first), ("columns that are not compared", second)):
        verdict = _verdict(plain, outcomes)
        _print(title, plain, verdict)
        status |= bool(verdict.faults)
    return status


def _source() -> Path:
    """SQLAlchemy's source distribution, fetched once."""
    version = sqlalchemy.__version__
    found = WORK / f"sqlalchemy-{version}"
    if found.exists():
        return found
    WORK.mkdir(exist_ok=True)
    command = ["-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:"]
    subprocess.run(
        [sys.executable, *command, "-d", str(WORK), f"sqlalchemy=={version}"], check=True
    )
    with tarfile.open(next(WORK.glob("[sS][qQ][lL]*.tar.gz"))) as archive:
        archive.extractall(WORK, filter="data")
    return next(path for path in WORK.iterdir() if path.name.lower() == found.name)


def _run(source: Path, name: str, chosen: Sequence[str], extra: dict[str, str]) -> Outcomes:
    results = WORK / f"{name.replace(' ', '-')}.json"
    results.unlink(missing_ok=True)
    environment = {**os.environ, RESULTS: str(results), "PYTHONPATH": str(ROOT), **extra}
    # Our plug-in for pytest imports SQLAlchemy before SQLAlchemy's own may rewrite it.
    options = ["-p", "no:kmsenv", "-p", "tests.differential.plugin", "-p", "no:cacheprovider"]
    options += ["-q", "--tb=no", "--maxfail=1000000", "--no-header", "-r", "N"]
    command = [sys.executable, "-m", "pytest", *options, *chosen]
    log = results.with_suffix(".log")
    print(f"running SQLAlchemy's tests, {name} ...", flush=True)
    with log.open("w") as out:
        subprocess.run(command, cwd=source, env=environment, stdout=out, stderr=out, check=False)
    if not results.exists():
        sys.exit(f"the run ended without results; see {log}")
    outcomes: Outcomes = json.loads(results.read_text())["outcomes"]
    return outcomes


def _refused_columns(outcomes: Outcomes) -> set[tuple[str, str]]:
    return {
        (_class_of(name), f"{found['table']}.{found['column']}")
        for name, outcome in outcomes.items()
        if (refusal := _refusal(outcome)) and (found := _REFUSED_COLUMN.search(refusal))
    }


def _verdict(plain: Outcomes, encrypted: Outcomes) -> Verdict:
    refusals, accepted = _rules("refusals.txt"), _rules("accepted.txt")
    verdict = Verdict()
    broken = {
        _class_of(name)
        for name, found in encrypted.items()
        if found.get("when") == "setup" and _refusal(found)
    }
    for name, found in encrypted.items():
        if plain.get(name, {}).get("outcome") != "passed" or found["outcome"] == "skipped":
            continue
        if found["outcome"] == "passed":
            verdict.passed += 1
            continue
        refusal = _refusal(found)
        reason = _matching(refusals, refusal) if refusal else None
        if reason is not None:
            verdict.refused[reason] += 1
            continue
        if found["when"] == "setup" and _class_of(name) in broken and not refusal:
            verdict.refused[_AFTERMATH] += 1
            continue
        reason = _matching(accepted, f"{name} | {found['chain'][0]}")
        if reason is not None:
            verdict.accepted[reason] += 1
            continue
        verdict.faults[name] = f"{found['at']}: {refusal or found['chain'][0]}"
    return verdict


def _refusal(outcome: dict[str, Any]) -> str | None:
    """The refusal of this library that a test failed with, if it was one."""
    return next((error for error in outcome.get("chain", ()) if OUR_ERRORS.match(error)), None)


def _rules(name: str) -> list[tuple[re.Pattern[str], str]]:
    """Lines of ``reason = pattern``; the order is that of the file."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    pairs = [line.partition(" = ") for line in lines if line and not line.startswith("#")]
    return [(re.compile(pattern, re.DOTALL), reason) for reason, _, pattern in pairs]


def _matching(rules: Iterable[tuple[re.Pattern[str], str]], text: str) -> str | None:
    return next((reason for pattern, reason in rules if pattern.search(text)), None)


def _class_of(nodeid: str) -> str:
    return nodeid.rpartition("::")[0]


def _print(title: str, plain: Outcomes, verdict: Verdict) -> None:
    passed_plain = sum(found["outcome"] == "passed" for found in plain.values())
    print(f"\n{title}: of {passed_plain:,} tests that pass as they are")
    print(f"{verdict.passed:7,} pass with encrypted columns")
    print(f"{sum(verdict.refused.values()):7,} are refused by design")
    for reason, count in verdict.refused.most_common():
        print(f"{count:13,} {reason}")
    print(f"{sum(verdict.accepted.values()):7,} ask for what encryption changes by design")
    for reason, count in verdict.accepted.most_common():
        print(f"{count:13,} {reason}")
    print(f"{len(verdict.faults):7,} faults")
    for name, what in sorted(verdict.faults.items())[:_MOST_SHOWN]:
        print(f"    {name}\n        {what[:300]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
