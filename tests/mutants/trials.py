"""Tries changes inside of functions: one collection of the tests, and a child process for each.

The child gives the functions of the changed module the code of the changed text, and runs the
tests that reach it. What runs while a module is imported cannot be changed so: ``imports.py``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop as run_items

PACKAGE = Path(__file__).parents[2] / "sqlalchemy_kmsenv"
KILLED, SURVIVED, HUNG = "killed", "survived", "hung"
OPTIONS = (
    "-x", "-o", "addopts=", "-p", "no:terminal", "-p", "no:cacheprovider", "--hypothesis-seed=0",
    # Hypothesis and others are imported before pytest would look at their asserts.
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip

Codes = dict[tuple[str, int], list[CodeType]]


def code_of_functions(module: CodeType) -> Codes:
    """The code of each function in a module, by its name and its line."""
    found: Codes = {}
    waiting = [module]
    while waiting:
        code = waiting.pop()
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for one in inner:
            found.setdefault((one.co_qualname, one.co_firstlineno), []).append(one)
        waiting += inner
    return found


def exchangeable(before: Codes, after: Codes) -> bool:
    """Whether functions that exist can be given the changed code."""
    for place, olds in before.items():
        news = after.get(place)
        # Without its place the change removed a function inside of another, which is no matter.
        if news and [old.co_freevars for old in olds] != [new.co_freevars for new in news]:
            return False
    return True


def functions_of(directory: Path) -> dict[str, list[FunctionType]]:
    """The functions that exist of each file below a directory."""
    found: dict[str, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            path = thing.__code__.co_filename
            if path.startswith(f"{directory}/"):
                found.setdefault(path, []).append(thing)
    return found


def exchange(functions: Sequence[FunctionType], before: Codes, after: Codes) -> None:
    """Give the functions of one file their changed code."""
    for function in functions:
        code = function.__code__
        place = (code.co_qualname, code.co_firstlineno)
        if not (news := after.get(place)):
            continue
        index = 0
        if len(news) > 1:
            # Lambdas of one line have one name: they are told apart by where they stand in it.
            positions = [list(old.co_positions()) for old in before[place]]
            index = positions.index(list(code.co_positions()))
        function.__code__ = news[index]


def waited_for(pid: int, limit_seconds: float) -> str:
    """What became of a child process; it is ended where it takes too long."""
    ends = time.monotonic() + limit_seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return SURVIVED if os.waitstatus_to_exitcode(status) == 0 else KILLED
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HUNG


class Trials:
    """A pytest plug-in that runs chosen tests in children instead of all of them."""

    def __init__(self, run: Callable[[Trials], None]) -> None:
        self._run = run
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[str, list[FunctionType]] = {}
        self._session: pytest.Session | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running what was collected."""
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        self._functions = functions_of(PACKAGE)
        gc.collect()
        gc.freeze()
        self._run(self)
        return True

    def outcome(
        self, path: Path, codes: tuple[Codes, Codes], tests: Sequence[str], limit_seconds: float
    ) -> tuple[str, str]:
        """What the tests say once a module has other code, and the first that fails."""
        functions = self._functions.get(str(path), [])
        change = partial(exchange, functions, *codes)
        chosen = [self._items[test] for test in tests if test in self._items]
        if len(chosen) < len(tests):
            raise LookupError("there are other tests than were measured: measure them again")
        directory = Path(tempfile.mkdtemp(prefix="kmsenv-mutant-"))
        pid = os.fork()
        if pid == 0:
            self._in_child(change, chosen, directory)
        result = waited_for(pid, limit_seconds)
        killer = directory / "killer"
        name = killer.read_text() if killer.exists() else ""
        shutil.rmtree(directory, ignore_errors=True)
        return result, name

    def _in_child(
        self, change: Callable[[], None], chosen: list[pytest.Item], directory: Path
    ) -> None:
        status = 1
        try:
            os.setsid()
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            change()
            session: Any = self._session
            session.items = chosen
            session.config._tmp_path_factory._basetemp = directory
            session.config.pluginmanager.register(_Killer(directory / "killer"))
            with contextlib.suppress(session.Failed):
                run_items(session)
            status = int(session.testsfailed > 0)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the change did it
            (directory / "killer").write_text(repr(error))
        finally:
            os._exit(status)


class _Killer:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._path.write_text(report.nodeid)


def collected(files: Sequence[str], run: Callable[[Trials], None]) -> None:
    """Collect the tests of these files, and have ``run`` try changes on them."""
    status = pytest.main([*OPTIONS, *files], plugins=[Trials(run)])
    if status != pytest.ExitCode.OK:
        sys.exit(f"the tests cannot be collected: {status!r}")
