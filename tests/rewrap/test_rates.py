"""One rate for a job, however many partitions and workers it has."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from sqlalchemy_kmsenv.errors import KeyServiceUnavailableError
from sqlalchemy_kmsenv.rewrap import rewrap, survey
from sqlalchemy_kmsenv.rewrap.meter import Budget, Meter
from tests.conftest import on
from tests.rewrap.conftest import Notes
from tests.rewrap.dask_models import Base
from tests.rewrap.test_executors import parcels  # noqa: F401  a fixture


class Threads(ThreadPoolExecutor):
    """Threads that keep what they are given."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.paces: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the other."""
        self.paces.append(args[3])
        return super().submit(fn, *args, **kwargs)


class Processes(ProcessPoolExecutor):
    """Processes that keep what they are given."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, mp_context=get_context("spawn"))
        self.paces: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the other."""
        self.paces.append(args[3])
        return super().submit(fn, *args, **kwargs)


def test_a_budget_is_paid_by_all_threads_together():
    """Two workers that each kept to the whole rate would be twice as fast."""
    budget = Budget()

    paid = [budget.pay(10, rate=100, began=5.0) for _ in range(3)]

    assert paid == [pytest.approx(5.1), pytest.approx(5.2), pytest.approx(5.3)]
    assert budget.pay(10, rate=100, began=50.0) == pytest.approx(50.1)
    assert budget.pay(10, rate=None, began=7.0) == 7.0


def test_the_first_wait_for_a_key_service_is_short():
    """Most throttling is over at once; half a second more for each call would be hours."""
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise KeyServiceUnavailableError("throttled", operation="ReEncrypt", code="Throttling")
        return "answer"

    meter = Meter(patience_seconds=0.5)

    assert meter.call(ask) == "answer"
    assert meter.kms_calls == len(asked) == 2


@pytest.mark.parametrize("partitions", [2, 64])
def test_threads_share_one_budget_whatever_the_partitions(notes: Notes, partitions):
    """Two workers with 64 partitions had a thirty-second of the rate."""
    notes.key.rotate()
    with Threads(2) as pool:
        report = rewrap(
            notes.engine,
            notes.metadata,
            executor=pool,
            partitions=partitions,
            rows_per_second=4000,
            kms_per_second=500,
        )

    assert report.ok
    assert {(pace.rows_per_second, pace.kms_per_second) for pace in pool.paces} == {(4000, 500)}


@on("postgresql")
def test_processes_share_by_their_number_and_not_by_the_partitions(engine, parcels):  # noqa: F811
    """A partition that waits for a process uses nothing."""
    with Processes(2) as pool:
        report = survey(
            engine,
            Base.metadata,
            executor=pool,
            partitions=8,
            source=parcels,
            rows_per_second=100_000,
        )

    assert report.stopped is None
    assert {pace.rows_per_second for pace in pool.paces[:7]} == {50_000}
    assert {pace.rows_per_second for pace in pool.paces} <= {50_000, 100_000}


def test_the_rate_holds_over_all_workers(notes: Notes):
    """What the database can bear is not a matter of how the job is cut."""
    report = rewrap(
        notes.engine,
        notes.metadata,
        columns=[notes.table.c.text],
        workers=3,
        partitions=6,
        batch_size=2,
        rows_per_second=60,
    )

    # Thirty rows; a page is paid for when it has been read.
    assert report.seconds >= 30 / 60 - 0.1
