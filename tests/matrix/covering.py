"""Covering arrays: few combinations of many axes that hold every pair, or every triple, of values.

Greedy, and seeded, so that the same axes give the same combinations on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, islice, product

Axes = Mapping[str, Sequence[str]]
Choice = dict[str, str]
Tuples = set[tuple[tuple[str, str], ...]]

_TRIES = 12
"""Rows that are tried for each one that is kept: more give fewer rows, and take longer."""
_ENOUGH = range(_TRIES * 40)
"""After so many that are not valid, a tuple is taken for one that no valid row holds."""


def covering(
    axes: Axes, strength: int, *, valid: Callable[[Choice], bool], seed: str
) -> list[Choice]:
    """Rows in which every ``strength`` values of different axes meet that may meet.

    ``valid`` is asked about whole rows. What no valid row holds is left out after some tries.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret is drawn
    wanted = _all_tuples(axes, strength)
    rows: list[Choice] = []
    for goal in sorted(wanted):
        if goal not in wanted:
            continue
        drawn = ({name: draw.choice(axes[name]) for name in axes} | dict(goal) for _ in _ENOUGH)
        tried = list(islice(filter(valid, drawn), _TRIES))
        row = max(tried, key=lambda each: len(tuples_of(each, strength) & wanted), default=None)
        if row is None:
            wanted.discard(goal)
            continue
        rows.append(row)
        wanted -= tuples_of(row, strength)
    return rows


def tuples_of(row: Choice, strength: int) -> Tuples:
    """Every ``strength`` values of a row, each with its axis."""
    return set(combinations(row.items(), strength))


def _all_tuples(axes: Axes, strength: int) -> Tuples:
    found: Tuples = set()
    for names in combinations(axes, strength):
        for values in product(*(axes[name] for name in names)):
            found.add(tuple(zip(names, values, strict=True)))
    return found
