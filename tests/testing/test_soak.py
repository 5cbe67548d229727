"""The short form of ``make soak``."""

from sqlalchemy_kmsenv.testing import KmsServer
from tests.testing.soak import FAULTS, Soak, for_operations


def test_no_value_is_lost_while_the_kms_fails(engine):
    """One request in twenty fails: what was committed reads back, and one error is seen."""
    with KmsServer(seed=5) as server:
        tally = Soak(engine, server, seed=5).run(for_operations(600))
        asked = server.calls.total()

    assert tally.lost == []
    assert tally.unexpected == []
    assert len(tally.rows) > 300
    assert min(tally.done[name] for name in ("insert", "update", "read")) > 50
    # The weather was as bad as it should be, and was met.
    assert asked > 300
    assert len(tally.failed) >= len(FAULTS) - 1
