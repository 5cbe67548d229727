"""The list of shapes of statements, and what each may be combined with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.matrix.axes import Design
from tests.matrix.worlds import World

Run = Callable[[World], Any]


def anything(_: Design) -> bool:
    """A shape that every model has."""
    return True


@dataclass(frozen=True)
class Shape:
    """One shape of statement."""

    name: str
    section: str
    code: str
    """As a reader would write it."""
    why: str
    run: Run
    returning: tuple[str, ...]
    many: tuple[str, ...]
    fits: Callable[[Design], bool]


SHAPES: dict[str, Shape] = {}
ALL_RETURNING = ("no", "entity", "columns", "key", "defaults")
ROWS_RETURNING = ("no", "entity", "columns", "key")


def shape(
    section: str,
    code: str,
    *,
    returning: tuple[str, ...] = ("no",),
    many: tuple[str, ...] = ("one",),
    fits: Callable[[Design], bool] = anything,
) -> Callable[[Run], Run]:
    """Register a function as a shape; its docstring says why it does what it does."""

    def register(run: Run) -> Run:
        assert run.__name__ not in SHAPES
        why = (run.__doc__ or "").strip()
        SHAPES[run.__name__] = Shape(run.__name__, section, code, why, run, returning, many, fits)
        return run

    return register


def one_table(design: Design) -> bool:
    """Whether a row of Core's table is a row of the model by itself."""
    return design.inherit != "joined_child"
