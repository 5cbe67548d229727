"""Who does what in a job: which thread asks, and what a worker that others run is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import MetaData

from sqlalchemy_kmsenv import ConfigurationError, Keyring, attach_keyrings
from sqlalchemy_kmsenv.rewrap import JobSource, rewrap, survey
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes


class Elsewhere(Executor):
    """An executor of a third party, which does not say how many workers it has."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(3)
        self.paces: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it in a thread."""
        self.paces.append(args[3])
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End its threads."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """An executor that ends with the test."""
    with Elsewhere() as executor:
        yield executor


@on("sqlite")
@pytest.mark.parametrize("whose", ["own", "given"])
def test_a_job_asks_in_the_thread_that_called_it(notes: Notes, whose):
    """What a caller gives need not be safe in threads, and is told each second, not each page."""
    notes.key.rotate()
    asked, told = set[threading.Thread](), []

    def should_stop() -> bool:
        asked.add(threading.current_thread())
        return False

    with ThreadPoolExecutor(2) as pool:
        options: dict[str, Any] = {"workers": 2} if whose == "own" else {"executor": pool}
        report = rewrap(
            notes.engine,
            notes.metadata,
            batch_size=1,
            partitions=2,
            should_stop=should_stop,
            on_progress=lambda _: told.append(threading.current_thread()),
            **options,
        )

    assert report.ok
    assert asked == set(told) == {threading.current_thread()}
    assert len(told) < report.counts.rows / 2


def test_processes_that_no_executor_counts_are_counted_by_what_they_report(
    notes: Notes, elsewhere: Elsewhere
):
    """Until then there may be as many as partitions; one would keep to a third for ever."""
    source = JobSource(metadata=lambda: notes.metadata, url=lambda: notes.engine)
    notes.key.rotate()

    report = rewrap(
        notes.engine,
        notes.metadata,
        executor=elsewhere,
        partitions=3,
        source=source,
        rows_per_second=90_000,
    )

    assert report.ok
    assert report.counts.rewritten == 57
    rates = [pace.rows_per_second for pace in elsewhere.paces]
    # All three of the first column before any of them has reported.
    assert rates == [30_000] * 3 + [90_000] * 3


@on("sqlite")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_that_nobody_foresaw_is_raised_as_it_is(notes: Notes, workers):
    """In threads of this process nobody was lost: it is a bug, and its traceback says where."""
    notes.key.rotate()

    def divide(_: Any) -> None:
        raise ZeroDivisionError

    attach_keyrings(notes.metadata, default=Keyring(Interfering(notes.key, divide)))

    with pytest.raises(ZeroDivisionError):
        rewrap(notes.engine, notes.metadata, workers=workers)


def without_columns() -> MetaData:
    """The models of another application."""
    return MetaData()


@on("sqlite")
@pytest.mark.parametrize("job", [rewrap, survey])
def test_what_a_worker_refuses_is_raised_and_is_no_lost_worker(
    notes: Notes, elsewhere: Elsewhere, job
):
    """A deployment of other models is not mended by doing the pages again."""
    source = JobSource(metadata=without_columns, url="sqlite://")

    with pytest.raises(ConfigurationError, match=r"kmsenv_rewrap_notes\.text"):
        job(notes.engine, notes.metadata, executor=elsewhere, source=source)
