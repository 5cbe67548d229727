"""The kept file of what is refused, so that a refusal which comes or goes is seen in review.

A line a cell: shape, how it is varied and the model, error, databases. Where a shape is
refused, or does not exist, with every model, one line says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.matrix.cells import Cell
from tests.matrix.running import Outcome
from tests.matrix.sweep import Results

FILE = Path(__file__).parent / "refused.txt"
EVERY = "every cell"
ABSENT = "absent"
"""Stands for the error where plain columns fail as well."""

Kept = dict[tuple[str, str], dict[str, str]]
"""By shape and cell: by database, the error."""


def read() -> Kept:
    """What the file says."""
    kept: Kept = {}
    for line in FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            shape, where, *rest = line.split(" | ")
            databases = kept.setdefault((shape, where), {})
            for each in rest:
                error, names = each.split(": ")
                databases.update(dict.fromkeys(names.split(), error))
    return kept


def expected(kept: Kept, cell: Cell, database: str) -> str:
    """The error that the file has for a cell; nothing where it is not refused."""
    for where in (EVERY, place(cell)):
        error = kept.get((cell.shape, where), {}).get(database)
        if error is not None:
            return error
    return ""


def found(outcome: Outcome) -> str:
    """Likewise of an outcome."""
    return outcome.error if outcome.verdict == "refused" else ""


def write(results: Mapping[str, Results]) -> None:
    """Keep what these runs, by database, refused."""
    kept: Kept = defaultdict(dict)
    for database, cells in results.items():
        for shape, mine in _by_shape(cells).items():
            errors = {"" if o.verdict == "right" else _kept_error(o) for _, o in mine}
            every = len(errors) == 1 and shape != "define" and "" not in errors
            for cell, outcome in mine:
                if every:
                    kept[shape, EVERY][database] = _kept_error(outcome)
                elif outcome.verdict in ("refused", "absent"):
                    kept[shape, place(cell)][database] = _kept_error(outcome)
    FILE.write_text(_HEAD + "".join(_line(*each) for each in sorted(kept.items())))


def _kept_error(outcome: Outcome) -> str:
    return ABSENT if outcome.verdict == "absent" else outcome.error


def _by_shape(cells: Iterable[tuple[Cell, Outcome]]) -> dict[str, Results]:
    by_shape: dict[str, Results] = defaultdict(list)
    for cell, outcome in cells:
        by_shape[cell.shape].append((cell, outcome))
    return by_shape


def place(cell: Cell) -> str:
    """How the file names a cell of a shape."""
    return f"{cell.variant}; {cell.design}"


def _line(key: tuple[str, str], errors: dict[str, str]) -> str:
    databases = defaultdict(list)
    for database, error in errors.items():
        databases[error].append(database)
    told = [f"{error}: {' '.join(names)}" for error, names in sorted(databases.items())]
    return " | ".join([*key, *told]) + "\n"


_HEAD = """\
# What is refused, and where; written by `make matrix ARGS="--strength 2 --write"`. A line: the
# shape of statement (tests/matrix/{inserts,upserts,updates,selects}.py), how it is varied and
# what the model has that the simplest has not, the error, the databases. `define`: the model.
"""
