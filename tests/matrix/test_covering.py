"""The combinations hold what they promise."""

from __future__ import annotations

from itertools import combinations, product

from tests.matrix.axes import AXES, may_be
from tests.matrix.cells import cells, described
from tests.matrix.covering import covering, tuples_of
from tests.matrix.registry import SHAPES


def test_every_pair_of_values_meets_in_some_model():
    """An axis that is left out of a combination is a fault that nobody sees."""
    rows = covering(AXES, 2, valid=may_be, seed="models")
    met = set().union(*(tuples_of(row, 2) for row in rows))
    missing = {
        pair
        for one, other in combinations(AXES, 2)
        for pair in product(product([one], AXES[one]), product([other], AXES[other]))
        if pair not in met
    }
    assert missing == {
        (("bind", "column"), ("identity", "code")),
        (("bind", "column"), ("identity", "code+slot")),
        (("scope", "row"), ("bind", "column")),
        (("key", "server"), ("given", "key_defaults")),
        (("values", "required"), ("inherit", "single_child")),
        (("values", "required"), ("inherit", "single_both")),
    }


def test_every_shape_meets_every_value_of_every_axis_that_it_fits():
    """Each statement with each kind of key, of scope, of inheritance, and so on."""
    models = cells(2)
    found = [cell for each in models.values() for cell in each]
    for shape in SHAPES.values():
        mine = [cell for cell in found if cell.shape == shape.name]
        assert {cell.returning for cell in mine} == set(shape.returning)
        assert {cell.many for cell in mine} == set(shape.many)
        fitting = [design for design in models if shape.fits(design)]
        for axis in AXES:
            wanted = {described(design)[axis] for design in fitting}
            assert {described(cell.design)[axis] for cell in mine} == wanted


def test_the_same_axes_give_the_same_cells():
    """The kept file of refusals names cells: another machine must have the same ones."""
    assert cells(2) == cells(2)
