"""A pytest plug-in that sees which tests reach each line, and how long each test takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

PACKAGE = Path(__file__).parents[2] / "sqlalchemy_kmsenv"


class Reach:
    """Measures one run."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage(data_file=None, source=[str(PACKAGE)], branch=False)
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_sessionstart(self) -> None:
        """Begin before anything of the package's tests is imported."""
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Set-up and tear-down count as the test's own."""
        self._coverage.switch_context(item.nodeid)
        began = time.perf_counter()
        result: Any = yield
        self._seconds[item.nodeid] = round(time.perf_counter() - began, 3)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails as it is can notice nothing."""
        if report.failed:
            self._failed.add(report.nodeid)

    @property
    def document(self) -> dict[str, Any]:
        """For each module, the tests that reach each of its lines; how long each test takes."""
        self._coverage.stop()
        passed = {name: self._seconds[name] for name in self._seconds.keys() - self._failed}
        data = self._coverage.get_data()
        lines = {
            str(Path(file).relative_to(PACKAGE.parent)): {
                str(line): sorted(c for c in contexts if c in passed)
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        return {"seconds": passed, "lines": lines}


def kept(document: dict[str, Any]) -> str:
    """A document as text: each line of code goes by the numbers of its tests."""
    names = sorted(document["seconds"])
    number_of = {name: number for number, name in enumerate(names)}
    lines = {
        path: {line: [number_of[test] for test in tests] for line, tests in by_line.items()}
        for path, by_line in document["lines"].items()
    }
    seconds = [document["seconds"][name] for name in names]
    return json.dumps({"tests": names, "seconds": seconds, "lines": lines})


def read(text: str) -> dict[str, Any]:
    """The document that was kept."""
    given = json.loads(text)
    names = given["tests"]
    lines = {
        path: {line: [names[number] for number in tests] for line, tests in by_line.items()}
        for path, by_line in given["lines"].items()
    }
    return {"seconds": dict(zip(names, given["seconds"], strict=True)), "lines": lines}


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What two runs have seen."""
    lines = {path: dict(by_line) for path, by_line in first["lines"].items()}
    for path, by_line in second["lines"].items():
        known = lines.setdefault(path, {})
        for line, tests in by_line.items():
            known[line] = sorted({*known.get(line, ()), *tests})
    return {"seconds": {**first["seconds"], **second["seconds"]}, "lines": lines}
