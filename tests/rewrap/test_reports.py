"""What a report calls well."""

from __future__ import annotations

from itertools import product

import pytest

from sqlalchemy_kmsenv.rewrap import ColumnReport, Counts, Report
from sqlalchemy_kmsenv.rewrap.refusals import RouteError
from sqlalchemy_kmsenv.rewrap.targets import check_route
from sqlalchemy_kmsenv.rewrap.work import Outcome

ENDS = ("current", "opened", "null", "not_envelopes", "failed")


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


@pytest.mark.parametrize("ends", list(product([0, 3], repeat=len(ENDS))))
def test_every_row_is_counted_once(ends):
    """What ended in no other way was changed by somebody else meanwhile."""
    outcome = Outcome(**dict(zip(ENDS, ends, strict=True)))

    counts = outcome.counts(20, rewritten=2, kms_calls=1)

    assert tuple(getattr(counts, name) for name in ENDS) == ends
    assert (counts.rows, counts.rewritten, counts.kms_calls) == (20, 2, 1)
    assert counts.changed == 20 - 2 - sum(ends)


AWS = "arn:aws:kms:eu-central-1:111122223333:key/a"


@pytest.mark.parametrize(
    ("source", "target", "may_go"),
    [
        (AWS, AWS, True),
        (AWS, AWS.replace("111122223333:key/a", "444455556666:key/b"), True),
        (AWS, AWS.replace("eu-central-1", "us-east-1"), False),
        (AWS, AWS.replace("arn:aws:", "arn:aws-cn:"), False),
        (AWS, AWS.replace(":kms:", ":other:"), False),
        # Of services that do not name their keys by ARN nothing is known.
        ("vault:transit:a", "vault:other:b", True),
        (AWS, "vault:transit:a", True),
        ("vault:transit:a", AWS, True),
    ],
)
def test_a_route_is_refused_where_the_arns_say_that_there_is_none(source, target, may_go):
    """ReEncrypt works within one service and Region."""
    if may_go:
        check_route(source, target)
        return
    with pytest.raises(RouteError, match=f"from {source} to {target}"):
        check_route(source, target)
