"""A pytest plug-in that writes down which tests reach each line, and how long each test takes."""

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
    """Measures one run; ``write`` keeps what it saw as JSON."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage(data_file=None, source=[str(PACKAGE)], branch=False)
        self._seconds: dict[str, float] = {}

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

    def write(self, path: Path) -> None:
        """Keep, for each module, the tests that reach each of its lines."""
        self._coverage.stop()
        data = self._coverage.get_data()
        names = sorted(self._seconds)
        number_of = {name: number for number, name in enumerate(names)}
        lines: dict[str, dict[int, list[int]]] = {}
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file)
            lines[str(Path(file).relative_to(PACKAGE.parent))] = {
                line: sorted(number_of[c] for c in contexts if c in number_of)
                for line, contexts in by_line.items()
            }
        document = {"tests": names, "seconds": [self._seconds[n] for n in names], "lines": lines}
        path.write_text(json.dumps(document))
