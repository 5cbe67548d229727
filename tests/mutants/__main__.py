"""Changes one thing at a time in the modules that keep the promises, and runs their tests.

    python -m tests.mutants reach                     # measure which tests reach which line
    python -m tests.mutants reach --add tests/kms     # measure some anew, and keep the others
    python -m tests.mutants run --count 400 --seed 1  # try a sample
    python -m tests.mutants run --in keyring/data_keys.py --all
    python -m tests.mutants table                     # all that was tried, room by room

What survives is printed, and fails the run unless ``accepted.txt`` says why it may.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import imports
from tests.mutants.leftovers import Leftovers
from tests.mutants.mutators import mutated
from tests.mutants.places import ROOT, Place, files_of, places_of
from tests.mutants.reach import Reach, kept, merged, read
from tests.mutants.trials import (
    HUNG,
    KILLED,
    SURVIVED,
    Codes,
    Trials,
    code_of_functions,
    collected,
    exchangeable,
)

REACH = ROOT / ".mutants" / "reach.json"
TRIED = ROOT / ".mutants" / "tried.jsonl"
ACCEPTED = Path(__file__).with_name("accepted.txt")
MODULES = (
    "access", "aead.py", "cell.py", "codecs.py", "columns", "context.py", "envelope.py",
    "keyring", "kms", "rewrap",
)  # fmt: skip
"""What keeps the promises: files, and directories whole, of the package."""
ELSEWHERE = ("keyring/telemetry.py",)
"""What is tested in processes of their own alone, where a change is not made."""
UNREACHED, ACCEPTABLE = "unreached", "accepted"


def main() -> int:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    commands = parser.add_subparsers(dest="command", required=True)
    reach = commands.add_parser("reach", help="measure; arguments go to pytest")
    reach.add_argument("--add", action="store_true", help="to what was measured before")
    run = commands.add_parser("run")
    run.add_argument("--in", dest="modules", nargs="+", default=list(MODULES))
    run.add_argument("--count", type=int, default=400)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--all", action="store_true")
    run.add_argument("--only", nargs="+", help="texts, one of which a mutant's name must hold")
    run.add_argument("--most", type=int, default=150, help="tests that are run on one mutant")
    run.add_argument("--inside", action="store_true", help="leave out what runs at import, slowly")
    run.add_argument("--new", action="store_true", help="leave out what was tried before")
    run.add_argument("--again", action="store_true", help="all that survived when it was tried")
    run.add_argument("--control", action="store_true", help="change nothing: all must survive")
    commands.add_parser("table")
    given, rest = parser.parse_known_args()
    if given.command == "reach":
        return _reach(rest, add=given.add)
    if rest:
        parser.error(f"unknown: {rest}")
    return _table() if given.command == "table" else _run(given)


def _reach(arguments: Sequence[str], *, add: bool) -> int:
    REACH.parent.mkdir(exist_ok=True)
    measured = Reach()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[measured])
    document = measured.document
    if add and REACH.exists():
        document = merged(read(REACH.read_text()), document)
    REACH.write_text(kept(document))
    return int(status)


def _run(given: argparse.Namespace) -> int:
    if not REACH.exists():
        sys.exit("it is not known which tests reach which line: python -m tests.mutants reach")
    places = _chosen(given)
    if given.inside:
        places = [place for place in places if not _at_import(place)]
    run = _Run(places, control=given.control)
    run.all()
    return 1 if run.survivors else 0


def _chosen(given: argparse.Namespace) -> list[Place]:
    document: dict[str, Any] = read(REACH.read_text())
    places = list(places_of(_files(given.modules), document, given.most))
    if given.only:
        places = [place for place in places if any(text in str(place) for text in given.only)]
    if given.again:
        before, accepted = _tried(), _accepted()
        left = {name for name, result in before.items() if result in (SURVIVED, UNREACHED)}
        return [place for place in places if str(place) in left - accepted]
    if not given.all and not given.only:
        chosen = random.Random(given.seed).sample(places, min(given.count, len(places)))
        places = sorted(chosen, key=lambda place: (place.path, place.mutant.number))
    if given.new:
        before = _tried()
        places = [place for place in places if str(place) not in before]
    return places


def _files(modules: Sequence[str]) -> list[Path]:
    elsewhere = [Path("sqlalchemy_kmsenv", module) for module in ELSEWHERE]
    return [path for path in files_of(modules) if path not in elsewhere]


class _Run:
    """One run over some mutants."""

    def __init__(self, places: Sequence[Place], *, control: bool) -> None:
        self._places = places
        self._control = control
        self._accepted = _accepted()
        self._killers: defaultdict[Path, Counter[str]] = defaultdict(Counter)
        self._out = os.fdopen(os.dup(1), "w")
        self._began = time.monotonic()
        self._results: Counter[str] = Counter()
        self.survivors = 0

    def all(self) -> None:
        """Try them, and say what survived."""
        os.environ["KMSENV_TEST_PROFILE"] = "unshrunk"
        imports.preload()
        self._leftovers = Leftovers()
        inside: list[Place] = []
        for place in self._places:
            if not place.tests:
                self._note(place, SURVIVED)
            elif self._control or not _at_import(place):
                inside.append(place)
            else:
                tree = mutated(place.source, place.mutant.number)
                self._note(place, imports.outcome(place.path, tree, place.tests, place.limit))
        if inside:
            files = sorted({test.split("::")[0] for place in inside for test in place.tests})
            collected(files, lambda trials: self._inside(trials, inside))
        self._say(", ".join(f"{number} {what}" for what, number in sorted(self._results.items())))
        self._say(f"{len(self._places)} mutants in {time.monotonic() - self._began:.0f} s")

    def _inside(self, trials: Trials, places: Sequence[Place]) -> None:
        for place in places:
            killers = self._killers[place.path]
            # What killed others of this module will kill this one.
            tests = sorted(place.tests, key=lambda test: -killers[test])
            codes = _codes(place, self._control)
            result, killer = trials.outcome(ROOT / place.path, codes, tests, place.limit)
            killers[killer] += 1
            self._note(place, result, killer)

    def _note(self, place: Place, result: str, killer: str = "") -> None:
        if result in (KILLED, HUNG):
            self._leftovers.take_away()
        if result == SURVIVED and not place.reached:
            result = UNREACHED
        if result in (SURVIVED, UNREACHED) and str(place) in self._accepted:
            result = ACCEPTABLE
        self._results[result] += 1
        if result in (SURVIVED, UNREACHED):
            self.survivors += 1
            self._say(f"{result}: {place} (line {place.mutant.line}, {len(place.tests)} tests)")
        elif result == HUNG or (self._control and result == KILLED):
            self._say(f"{result}: {place} (line {place.mutant.line}) {killer}")
        if not self._control:
            with TRIED.open("a") as file:
                told = {"name": str(place), "result": result, "killer": killer}
                file.write(json.dumps(told) + "\n")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def _at_import(place: Place) -> bool:
    if place.mutant.at_import or place.imported_only:
        return True
    before = _before(str(ROOT / place.path), place.source)
    closures = any(code.co_freevars for codes in before.values() for code in codes)
    return closures and not exchangeable(*_codes(place, control=False))


def _codes(place: Place, control: bool) -> tuple[Codes, Codes]:
    path = str(ROOT / place.path)
    before = _before(path, place.source)
    if control:
        return before, before
    tree = mutated(place.source, place.mutant.number)
    return before, code_of_functions(compile(tree, path, "exec", dont_inherit=True))


@lru_cache(maxsize=1)
def _before(path: str, source: str) -> Codes:
    return code_of_functions(compile(source, path, "exec", dont_inherit=True))


def _accepted() -> set[str]:
    lines = ACCEPTED.read_text().splitlines() if ACCEPTED.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


def _tried() -> dict[str, str]:
    """What became of each mutant at last."""
    lines = TRIED.read_text().splitlines() if TRIED.exists() else []
    told = map(json.loads, lines)
    return {one["name"]: one["result"] for one in told}


def _table() -> int:
    accepted, tried = _accepted(), _tried()
    document: dict[str, Any] = read(REACH.read_text())
    print("| room | mutants | tried | killed | survived | not reached | accepted | share |")
    print("|---|---|---|---|---|---|---|---|")
    for module in MODULES:
        names = [str(place) for place in places_of(_files([module]), document, 1)]
        results = Counter(
            ACCEPTABLE if name in accepted and tried[name] in (SURVIVED, UNREACHED) else tried[name]
            for name in names
            if name in tried
        )
        killed, real = results[KILLED] + results[HUNG], results.total() - results[ACCEPTABLE]
        share = f"{100 * killed / real:.1f} %" if real else "-"
        print(
            f"| {module} | {len(names)} | {results.total()} | {killed} | {results[SURVIVED]} |"
            f" {results[UNREACHED]} | {results[ACCEPTABLE]} | {share} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
