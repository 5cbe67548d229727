"""The cells of the matrix: which models are made, and which statements are run with each."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import combinations, product

from tests.matrix import inserts, selects, updates, upserts
from tests.matrix.axes import AXES, Design, may_be
from tests.matrix.covering import Choice, Tuples, covering, tuples_of
from tests.matrix.registry import SHAPES, Shape

__all__ = ["Cell", "cells"]

SOURCES = (inserts, upserts, updates, selects)
"""Importing them registers their shapes."""

_TRIES = 12


@dataclass(frozen=True)
class Cell:
    """A shape of statement, how it is varied, and the model it is used with."""

    shape: str
    returning: str
    many: str
    design: Design

    @property
    def variant(self) -> str:
        """How the statement is varied."""
        words = [] if self.returning == "no" else [f"returning={self.returning}"]
        return " ".join([*words, self.many])


def cells(strength: int) -> dict[Design, list[Cell]]:
    """By model, cells in which every ``strength`` values of different axes meet."""
    models = covering(AXES, strength, valid=may_be, seed="models")
    found: dict[Design, list[Cell]] = {Design(**row): [] for row in models}
    for shape in SHAPES.values():
        for row in _chosen(shape, models, strength):
            returning, many = row.pop("returning"), row.pop("many")
            design = Design(**row)
            found[design].append(Cell(shape.name, returning, many, design))
    return found


def _chosen(shape: Shape, models: list[Choice], strength: int) -> list[Choice]:
    """Of the models that a shape fits, so many that it meets every other ``strength - 1`` values.

    How the statement is varied counts as two axes more.
    """
    draw = random.Random(shape.name)  # noqa: S311 - no secret is drawn
    fitting = [row for row in models if shape.fits(Design(**row))]
    variants = list(product(shape.returning, shape.many))
    wanted: Tuples = set()
    holding: dict[tuple[tuple[str, str], ...], list[Choice]] = defaultdict(list)
    for model, (returning, many) in product(fitting, variants):
        row = {**model, "returning": returning, "many": many}
        for each in (*combinations(row.items(), strength - 1), *_extra(row)):
            wanted.add(each)
            holding[each].append(row)
    chosen: list[Choice] = []
    for goal in sorted(wanted):
        if goal not in wanted:
            continue
        rows = holding[goal]
        tried = draw.sample(rows, min(len(rows), _TRIES))
        best = max(tried, key=lambda row: len(tuples_of(row, strength - 1) & wanted))
        chosen.append(dict(best))
        wanted -= tuples_of(best, strength - 1) | _extra(best)
    return chosen


def _extra(row: Choice) -> Tuples:
    """Keys of the server's meet every variation of a statement: there it differs most."""
    if row["key"] != "server":
        return set()
    axes = ("key", "bind", "returning", "many")
    return {tuple((axis, row[axis]) for axis in axes)}


def described(design: Design) -> Choice:
    """A design as a row of a covering array."""
    return asdict(design)
