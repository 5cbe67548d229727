"""Every pair of axes on every database: right, or refused as the kept file says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.conftest import ABSENT
from tests.matrix import kept, page
from tests.matrix.cells import cells
from tests.matrix.lanes import LANES
from tests.matrix.sweep import DEFINE, PAIRS, Results, shares, sweep


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[Results]]]:
    """The sweeps of all databases and drivers, a process each, on all processors."""
    lanes = [name for name, lane in LANES.items() if lane.server not in ABSENT]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        share = shares(lanes, PAIRS)
        yield {name: pool.submit(sweep, name, share[name]) for name in lanes}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", LANES)
def test_every_cell_is_right_or_refused_as_kept(name, running):
    """A value comes back in another process, or the statement is refused before it writes.

    What is refused is in a file: a refusal that comes or goes is seen in review. Write it
    again with ``make matrix ARGS="--strength 2 --write"``.
    """
    lane = LANES[name]
    if lane.server in ABSENT:
        pytest.skip(ABSENT[lane.server or ""])
    results = running[name].result()
    assert len(results) > 50
    assert [each for each in results if each[1].verdict == "fault"] == []
    known = kept.read()
    assert {
        (cell.shape, cell.variant, str(cell.design)): kept.found(outcome)
        for cell, outcome in results
        if outcome.verdict != "absent"
        and kept.found(outcome) != kept.expected(known, cell, lane.database)
    } == {}


def test_the_kept_file_names_cells_that_there_are():
    """A line about a cell that is gone would hide that nothing is run there."""
    designs = {str(design) for design in cells(PAIRS)}
    there = {(cell.shape, kept.place(cell)) for each in cells(PAIRS).values() for cell in each}
    shapes = {shape for shape, _ in there}
    for shape, where in kept.read():
        if where == kept.EVERY:
            assert shape in shapes
        elif shape == DEFINE:
            assert where.split("; ")[1] in designs
        else:
            assert (shape, where) in there


def test_the_page_is_what_the_kept_file_says():
    """Written by ``python -m tests.matrix.page``."""
    assert page.PAGE.read_text() == page.page()
