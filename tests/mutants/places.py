"""Which mutants there are, and which tests are to notice each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.mutators import Mutant, mutants_of

_BEHIND, _FEW = 4, 12

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Place:
    """A mutant, and the tests that reach its line."""

    path: Path
    source: str
    mutant: Mutant
    tests: tuple[str, ...]
    seconds: float
    imported_only: bool
    reached: bool
    """Whether a test was seen to run the line; a child process that one forks is not seen."""

    def __str__(self) -> str:
        return f"{'/'.join(self.path.parts[1:])}:{self.mutant.name}"

    @property
    def limit(self) -> float:
        """Seconds after which its tests hang."""
        return 30 + 5 * self.seconds


def files_of(modules: Sequence[str]) -> Iterator[Path]:
    """The files of some modules and directories of the package, from the root."""
    for module in modules:
        path = ROOT / "sqlalchemy_kmsenv" / module
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (file.relative_to(ROOT) for file in files)


def places_of(paths: Iterable[Path], reach: dict[str, Any], most: int) -> Iterator[Place]:
    """All mutants of these files, each with at most so many tests."""
    seconds: dict[str, float] = reach["seconds"]
    breadth = Counter(
        test
        for by_line in reach["lines"].values()
        for test in {test for tests in by_line.values() for test in tests}
    )
    for path in paths:
        by_line: dict[str, list[str]] = reach["lines"].get(str(path), {})
        everywhere = {test for tests in by_line.values() for test in tests}
        source = (ROOT / path).read_text()
        chosen: dict[tuple[int, bool], tuple[str, ...]] = {}
        for mutant in mutants_of(source):
            found = by_line.get(str(mutant.line))
            # What runs at import, or only out of sight, concerns every test of the module.
            imported = mutant.at_import or found == []
            key = (mutant.line, imported)
            if key not in chosen:
                near = found if found and not imported else everywhere
                ranked = _varied(near, breadth, seconds)
                rare = _rare(by_line, mutant.line)
                chosen[key] = tuple(sorted(ranked, key=lambda test: test not in rare)[:most])
            tests = chosen[key]
            total = sum(seconds[test] for test in tests)
            yield Place(path, source, mutant, tests, total, imported, bool(found) or imported)


def _rare(by_line: dict[str, list[str]], line: int) -> set[str]:
    """The tests that reach what few do, shortly behind a line: a guard's own are among them."""
    behind = (by_line.get(str(line + step), []) for step in range(1, _BEHIND + 1))
    return {test for tests in behind if len(tests) <= _FEW for test in tests}


def _varied(tests: Iterable[str], breadth: Counter[str], seconds: dict[str, float]) -> list[str]:
    """Each function once before any of them twice; first what is fast and about few modules."""
    times: Counter[str] = Counter()
    ranked = []
    for test in sorted(tests, key=lambda test: (seconds[test], test)):
        function = test.partition("[")[0]
        ranked.append((times[function], breadth[test] * seconds[test], test))
        times[function] += 1
    return [test for *_, test in sorted(ranked)]
