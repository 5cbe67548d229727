"""Changes one thing at a time in the modules that keep the promises, and runs their tests.

    python -m tests.mutants reach                     # measure which tests reach which line
    python -m tests.mutants run --count 400 --seed 1  # try a sample
    python -m tests.mutants run --in keyring/data_keys.py --all

What survives is printed, and fails the run unless ``accepted.txt`` says why it may.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.children import KILLED, SURVIVED, outcome, preload
from tests.mutants.mutators import Mutant, mutants_of, mutated

ROOT = Path(__file__).parents[2]
REACH = ROOT / ".mutants" / "reach.json"
ACCEPTED = Path(__file__).with_name("accepted.txt")
MODULES = (
    "access", "aead.py", "cell.py", "codecs.py", "columns", "context.py", "envelope.py", "jobs",
    "keyring", "kms", "rewrap",
)  # fmt: skip
"""What keeps the promises: files, and directories whole, of the package."""
MOST_TESTS = 150
"""Tests that are run on one mutant, the fastest of those that reach its line."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mutant, and the tests that reach its line."""

    path: Path
    mutant: Mutant
    tests: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{'/'.join(self.path.parts[1:])}:{self.mutant.name}"


def main() -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("reach", help="measure; arguments go to pytest")
    run = commands.add_parser("run")
    run.add_argument("--in", dest="modules", nargs="+", default=list(MODULES))
    run.add_argument("--count", type=int, default=400)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--all", action="store_true")
    run.add_argument("--only", help="text that the name of a mutant must hold")
    given, rest = parser.parse_known_args()
    if given.command == "reach":
        return _reach(rest)
    if rest:
        parser.error(f"unknown: {rest}")
    return _run(given)


def _reach(arguments: Sequence[str]) -> int:
    # Not at the top: the children of a run must inherit no module of the package.
    import pytest

    from tests.mutants.reach import Reach

    REACH.parent.mkdir(exist_ok=True)
    measured = Reach()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[measured])
    measured.write(REACH)
    return int(status)


def _run(given: argparse.Namespace) -> int:
    if not REACH.exists():
        sys.exit("it is not known which tests reach which line: python -m tests.mutants reach")
    chosen = _chosen(given)
    preload()
    accepted = _accepted()
    counts: Counter[str] = Counter()
    survivors: list[Place] = []
    began = time.monotonic()
    for place in chosen:
        result = _outcome(place)
        if result == SURVIVED and str(place) in accepted:
            result = "accepted"
        counts[result] += 1
        if result in (SURVIVED, "unreached"):
            survivors.append(place)
            print(f"{result}: {place} ({len(place.tests)} tests)", flush=True)
    _report(counts, survivors, time.monotonic() - began)
    return 1 if survivors else 0


def _chosen(given: argparse.Namespace) -> list[Place]:
    places = list(_places(given.modules))
    if given.only:
        places = [place for place in places if given.only in str(place)]
    if not given.all and not given.only:
        chosen = random.Random(given.seed).sample(places, min(given.count, len(places)))
        places = sorted(chosen, key=lambda place: (place.path, place.mutant.number))
    return places


def _places(modules: Sequence[str]) -> Iterator[Place]:
    document: dict[str, Any] = json.loads(REACH.read_text())
    names, seconds = document["tests"], document["seconds"]
    for path in _files(modules):
        by_line = document["lines"].get(str(path), {})
        everywhere = {test for tests in by_line.values() for test in tests}
        for mutant in mutants_of((ROOT / path).read_text()):
            found = by_line.get(str(mutant.line))
            # A line that runs at import alone concerns every test of the module.
            reaching = everywhere if found == [] else found or ()
            reaching = sorted(reaching, key=lambda test: seconds[test])[:MOST_TESTS]
            yield Place(
                path,
                mutant,
                tuple(names[test] for test in reaching),
                sum(seconds[test] for test in reaching),
            )


def _files(modules: Sequence[str]) -> Iterator[Path]:
    for module in modules:
        path = ROOT / "sqlalchemy_kmsenv" / module
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists()
        yield from (file.relative_to(ROOT) for file in files)


def _outcome(place: Place) -> str:
    if not place.tests:
        return "unreached"
    tree = mutated((ROOT / place.path).read_text(), place.mutant.number)
    return outcome(place.path, tree, place.tests, limit_seconds=60 + 5 * place.seconds)


def _accepted() -> set[str]:
    lines = ACCEPTED.read_text().splitlines() if ACCEPTED.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


def _report(counts: Counter[str], survivors: Sequence[Place], seconds: float) -> None:
    tried = sum(counts.values())
    real = tried - counts["accepted"]
    killed = counts[KILLED] + counts["hung"]
    share = 100 * killed / real if real else 100.0
    print(", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    print(f"{tried} mutants in {seconds:.0f} s: {share:.1f} % of the real ones killed")


if __name__ == "__main__":
    sys.exit(main())
