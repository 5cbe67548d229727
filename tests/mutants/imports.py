"""Tries changes of what runs while a module is imported: a child process imports all anew."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.trials import OPTIONS, waited_for

PRELOADED = (
    "alembic.autogenerate",
    "boto3",
    "click",
    "cryptography.hazmat.primitives.ciphers.aead",
    "hypothesis",
    "psycopg",
    "pymysql",
    "rich.console",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
)


def preload() -> None:
    """Import what every child needs, and nothing of the package itself."""
    for name in PRELOADED:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.split(".")[0] == "sqlalchemy_kmsenv"]
    if loaded:
        raise RuntimeError(
            f"{loaded[0]} is imported already, so that a changed module would not count"
        )


def outcome(path: Path, tree: ast.Module, tests: Sequence[str], limit_seconds: float) -> str:
    """What the tests say of the changed module: the first failure kills it."""
    directory = tempfile.mkdtemp(prefix="kmsenv-mutant-")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        changed = _Changed(path, tree)
        sys.meta_path.insert(0, changed)
        status = 1
        try:
            # Before pytest, whose own importer would take this plug-in's package over.
            importlib.import_module(changed.name)
            status = int(pytest.main([*OPTIONS, f"--basetemp={directory}/t", *tests]))
        finally:
            os._exit(status)
    result = waited_for(pid, limit_seconds)
    shutil.rmtree(directory, ignore_errors=True)
    return result


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree, and leaves the others alone."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self._path = path
        self._tree = tree
        parts = list(path.with_suffix("").parts)
        self._is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self._is_package else parts)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The changed module's, or nothing."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self._path.absolute(),
            loader=self,
            submodule_search_locations=[str(self._path.parent)] if self._is_package else None,
        )

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        exec(compile(self._tree, str(self._path.absolute()), "exec"), module.__dict__)  # noqa: S102 - the point
