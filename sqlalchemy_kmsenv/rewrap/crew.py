"""Who works on the partitions of a job: this thread, threads, or the processes of an executor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, suppress
from typing import Any

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError, KmsEnvError
from sqlalchemy_kmsenv.printable import printable
from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Workshop
from sqlalchemy_kmsenv.rewrap.options import Settings
from sqlalchemy_kmsenv.rewrap.partitions import Partition
from sqlalchemy_kmsenv.rewrap.slices import Pace, SliceResult, run_slice

_LOG = logging.getLogger(__name__)
_WAIT_SECONDS = 0.2


class WorkerLostError(Exception):
    """A worker of an executor died, or could not begin; its text is for the report."""


class _NotTakenError(Exception):
    """An executor was given work, and raised the cause of this."""


class Crew:
    """Runs slices, and keeps all of them to one rate."""

    def __init__(
        self,
        settings: Settings,
        workshop: Workshop,
        stack: ExitStack,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._workshop = workshop
        self._is_stopping = is_stopping
        self._executor, self.width = _executor(settings, stack)
        self._said = 0 if settings.source is None else _processes_of(self._executor)
        self._seen = set[str]()

    def begin(self, job: ColumnJob, partition: Partition, active: int) -> Future[SliceResult]:
        """Go on with one of ``active`` partitions."""
        settings = self._settings
        alone = settings.executor is None and settings.workers == 1
        processes = 1 if settings.source is None else self._running(active)
        pace = Pace(
            seconds=0 if alone else defaults.REWRAP_SLICE_SECONDS,
            kms_per_second=_share(settings.kms_per_second, processes),
            rows_per_second=_share(settings.rows_per_second, processes),
            kms_patience_seconds=settings.kms_patience_seconds,
            give_up_after=settings.give_up_after,
        )
        # Another process cannot ask the functions of this one.
        should_stop = settings.should_stop if alone else self._is_stopping
        should_stop = None if settings.source is not None else should_stop
        where = settings.source or self._workshop
        try:
            return self._executor.submit(run_slice, where, job, partition, pace, should_stop)
        except KmsEnvError:
            raise
        except Exception as error:
            if settings.executor is None:
                raise
            # Broken or shut down: what others are at work on is still waited for.
            failed: Future[SliceResult] = Future()
            not_taken = _NotTakenError()
            not_taken.__cause__ = error
            failed.set_exception(not_taken)
            return failed

    def result(self, future: Future[SliceResult]) -> SliceResult:
        """What a worker reports.

        Raises:
            WorkerLostError: it does not.
            KmsEnvError: it is refused.
        """
        try:
            result = future.result()
        except KmsEnvError:
            raise
        except _NotTakenError as error:
            raise WorkerLostError(
                f"the executor takes no work ({_in_words(error.__cause__)}); run the job again with"
                " one that is open until its end"
            ) from error
        except CancelledError as error:
            raise WorkerLostError(
                "the work of the executor was cancelled; run the job again with one that is open"
                " until its end"
            ) from error
        except Exception as error:
            if self._settings.source is None:
                raise
            # BrokenProcessPool, KilledWorker of Dask, what could not be sent or imported there.
            _LOG.warning("a worker failed", exc_info=True)
            raise WorkerLostError(
                f"a worker was lost or failed ({_in_words(error)}); was it out of"
                " memory, or does it lack the models? Its pages are done again"
            ) from error
        self._seen.add(result.process)
        return result

    def _running(self, active: int) -> int:
        """How many processes may be at work on so many partitions; each has its share."""
        # Before anybody has said or reported anything, as many as there can be.
        known = max(self._said, len(self._seen)) or active
        return max(1, min(known, active))


def _in_words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {printable(str(error).strip().partition(chr(10))[0])}"


def ended(flying: Iterable[Future[SliceResult]]) -> set[Future[SliceResult]]:
    """The futures that are done, for which this waits a moment."""
    done, others = wait(flying, timeout=_WAIT_SECONDS, return_when=FIRST_COMPLETED)
    # What ``shutdown(cancel_futures=True)`` cancels is never told to those who wait.
    return done | {each for each in others if each.cancelled()}


class _Here(Executor):
    """Runs what it is given at once, in this thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _executor(settings: Settings, stack: ExitStack) -> tuple[Executor, int]:
    if settings.executor is not None:
        return settings.executor, settings.parts
    if settings.source is not None and settings.workers > 1:
        raise ConfigurationError("source=... is for an executor; give both or neither")
    if settings.workers == 1:
        return _Here(), 1
    pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="kmsenv")
    return stack.enter_context(pool), settings.workers


def _processes_of(executor: Any) -> int:
    # Not public, and the same in ProcessPoolExecutor of CPython 3.10 to 3.14, loky and mpi4py.
    workers = getattr(executor, "_max_workers", None)
    if isinstance(workers, int):
        return workers
    with suppress(Exception):
        # ClientExecutor of Dask (distributed 2024 to 2026) keeps its Client as ``_client``.
        return len(executor._client.nthreads())  # noqa: SLF001
    return 0


def _share(rate: float | None, processes: int) -> float | None:
    return None if rate is None else rate / processes
