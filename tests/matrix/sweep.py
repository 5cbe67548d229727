"""Runs the cells of one lane."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy_kmsenv import Keyring, LocalKms
from sqlalchemy_kmsenv.errors import KmsEnvError
from tests.matrix.advice import applies, follow
from tests.matrix.axes import Design
from tests.matrix.cells import Cell, cells
from tests.matrix.elsewhere import Elsewhere
from tests.matrix.lanes import LANES, Lane, connected, within
from tests.matrix.running import Outcome, Reader, Tables

DEFINE = "define"
"""The shape of a cell whose model is refused as it is declared."""

_FOLLOWED = 4
"""With so many models the advice of a shape's message is followed: they read the same."""

PAIRS = 2
"""The strength that is run each time."""

Results = list[tuple[Cell, Outcome]]
Share = dict[Design, list[Cell]]
"""Cells by their model."""


def sweep(name: str, share: Share, part: tuple[int, int] = (0, 1)) -> Results:
    """The cells of a lane, or the part ``i`` of ``n`` of their models, and what came of each."""
    lane = LANES[name]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
        # Plain columns and encrypted ones give the same warnings; they are no outcome.
        warnings.simplefilter("ignore")
        return within(lane, lambda: list(_sweep(lane, share, part, Path(directory))))


def _sweep(
    lane: Lane, share: Share, part: tuple[int, int], directory: Path
) -> Iterator[tuple[Cell, Outcome]]:
    prefix = f"mx_{lane.name}_{part[0]}"
    engine = connected(lane, directory)
    keyring = Keyring(LocalKms.create(directory / "keys.json"))
    elsewhere = Elsewhere(lane, directory, prefix)
    done: Counter[Any] = Counter()
    for i, (design, wanted) in enumerate(share.items()):
        if i % part[1] != part[0]:
            continue
        try:
            tables = Tables(engine, design, keyring, prefix)
        except KmsEnvError as error:
            outcome = Outcome("refused", type(error).__name__, str(error))
            yield Cell(DEFINE, "no", "one", design), outcome
        else:
            yield from _with_tables(tables, wanted, elsewhere, done)
    elsewhere.close()
    engine.dispose()


def shares(names: Sequence[str], strength: int) -> dict[str, Share]:
    """What each of these lanes runs; all triples take minutes to find, so this is done once."""
    found = cells(strength)
    return {name: _share_of(LANES[name], found) for name in names}


def _share_of(lane: Lane, every: Share) -> Share:
    found: Share = {}
    mine, of = lane.share
    number: Counter[str] = Counter()
    for design, wanted in every.items():
        for cell in wanted:
            number[cell.shape] += 1
            if number[cell.shape] % of == mine:
                found.setdefault(design, []).append(cell)
    return found


def _with_tables(
    tables: Tables, wanted: list[Cell], elsewhere: Reader, done: Counter[Any]
) -> Iterator[tuple[Cell, Outcome]]:
    with tables:
        for cell in wanted:
            outcome = _run(tables, cell, elsewhere)
            if outcome.verdict == "refused":
                outcome = _followed(tables, cell, elsewhere, outcome, done)
            yield cell, outcome


def _run(tables: Tables, cell: Cell, elsewhere: Reader) -> Outcome:
    try:
        return tables.run(cell, elsewhere)
    except Exception as error:  # noqa: BLE001 - the sweep goes on, and reports it
        outcome = Outcome("fault", "unreadable", f"{type(error).__name__}: {error}")
        gc.collect()
        tables.engine.dispose()
        return outcome


def _followed(
    tables: Tables, cell: Cell, elsewhere: Reader, refused: Outcome, done: Counter[Any]
) -> Outcome:
    """The refusal, or a fault where what its message advises does not work."""
    advised = follow(cell, refused.detail)
    if not advised:
        return Outcome("fault", "no advice", refused.detail)
    for other in filter(applies, advised):
        done[cell.shape, other.shape] += 1
        if done[cell.shape, other.shape] > _FOLLOWED:
            continue
        outcome = _run(tables, other, elsewhere)
        if outcome.verdict not in ("right", "absent"):
            told = f"{refused.detail} -> {other.shape}: {outcome.error} {outcome.detail}"
            return Outcome("fault", "advice", told)
    return refused
