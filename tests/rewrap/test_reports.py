"""What a report calls well."""

from __future__ import annotations

from itertools import product

import pytest

from sqlalchemy_kmsenv.rewrap import ColumnReport, Counts, Report


@pytest.mark.parametrize(
    ("failed", "not_envelopes", "false_headers"), list(product([0, 1, 2], repeat=3))
)
def test_nothing_that_is_amiss_makes_up_for_something_else(failed, not_envelopes, false_headers):
    """A program that deletes the former key where a report is ok looks at nothing else."""
    counts = Counts(rows=9, failed=failed, not_envelopes=not_envelopes, false_headers=false_headers)
    columns = (
        ColumnReport("notes.first", counts, finished=True),
        ColumnReport("notes.second", Counts(rows=9), finished=True),
    )

    report = Report("rewrap", columns)

    assert report.complete
    assert report.ok is (counts == Counts(rows=9))
