"""The short form of ``make soak``: a minute, 20 seconds of it on each database."""

from sqlalchemy_kmsenv.testing import KmsServer
from tests.testing.soak import FAULTS, Soak, for_seconds


def test_no_value_is_lost_while_the_kms_fails(engine):
    """One request in twenty fails: what was committed reads back, and one error is seen."""
    with KmsServer(seed=5) as server:
        tally = Soak(engine, server, seed=5).run(for_seconds(20))
        asked = server.calls.total()

    assert tally.lost == []
    assert tally.unexpected == []
    assert len(tally.rows) > 300
    assert min(tally.done[name] for name in ("insert", "update", "read")) > 50
    # The weather was as bad as it should be, and was met.
    assert asked > 300
    assert len(tally.failed) >= len(FAULTS) - 1
