"""The options that all jobs share, checked once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.rewrap.checkpoints import FileCheckpoint, TableCheckpoint
from sqlalchemy_kmsenv.rewrap.plans import JobSource
from sqlalchemy_kmsenv.rewrap.reports import Progress

Checkpoint = FileCheckpoint | TableCheckpoint | str | Path


class PassOptions(TypedDict, total=False):
    """How a job goes through its tables."""

    batch_size: int
    """Rows of a page, and of a transaction; 1,000 by default."""
    rows_per_second: float | None
    """Rows at most, over all workers."""
    workers: int
    """Threads, where no ``executor`` is given; 1 by default: this thread."""
    partitions: int | None
    """Into how many ranges of the key a table is cut: by default as many as ``workers``,
    or 8 with an ``executor``."""
    executor: Executor | None
    """Any ``concurrent.futures.Executor``; it is not shut down."""
    source: JobSource | None
    """What another process needs, for every ``executor`` but a ThreadPoolExecutor."""
    count_rows: bool
    """Count each table first, for ``Progress.total``; True by default."""
    on_progress: Callable[[Progress], object] | None
    """Called in this thread after each page, or each second with several workers."""
    should_stop: Callable[[], bool] | None
    """Asked in between; where True, the job stops after the pages in hand."""


class JobOptions(PassOptions, total=False):
    """How a job that calls the key service goes through its tables."""

    kms_per_second: float | None
    """KMS calls at most, over all workers."""
    checkpoint: Checkpoint | None
    """Where to keep how far the job is, and to go on from: a path or ``FileCheckpoint``, or a
    ``TableCheckpoint``. Removed when the job is complete."""
    preflight: bool
    """Ask the key service first what it would refuse; True by default."""
    give_up_after: int
    """Rows in a row that the key service refuses, with none that it serves in the same page,
    before the job stops; 100 by default."""
    kms_patience_seconds: float
    """How long a key service that is throttled or away is waited for before the job stops; 60
    by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options with their defaults.

    Raises:
        ConfigurationError: one cannot be right.
    """

    batch_size: int = defaults.REWRAP_BATCH_ROWS
    rows_per_second: float | None = None
    workers: int = 1
    partitions: int | None = None
    executor: Executor | None = None
    source: JobSource | None = None
    count_rows: bool = True
    on_progress: Callable[[Progress], object] | None = None
    should_stop: Callable[[], bool] | None = None
    kms_per_second: float | None = None
    checkpoint: Checkpoint | None = None
    preflight: bool = True
    give_up_after: int = defaults.REWRAP_GIVE_UP_AFTER_ROWS
    kms_patience_seconds: float = defaults.REWRAP_KMS_PATIENCE_SECONDS

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "give_up_after"):
            _check(name, getattr(self, name) >= 1, getattr(self, name))
        for name in ("rows_per_second", "kms_per_second", "partitions"):
            given = getattr(self, name)
            _check(name, given is None or given > 0, given)
        _check("kms_patience_seconds", self.kms_patience_seconds >= 0, self.kms_patience_seconds)
        in_threads = self.executor is None or isinstance(self.executor, ThreadPoolExecutor)
        if not in_threads and self.source is None:
            raise ConfigurationError(
                f"{type(self.executor).__name__} may run in other processes, where neither a"
                " Keyring nor an Engine can go; give source=JobSource(metadata=..., url=...)"
            )

    @property
    def parts(self) -> int:
        """Into how many partitions a table is cut."""
        if self.partitions is not None:
            return self.partitions
        return self.workers if self.executor is None else defaults.REWRAP_EXECUTOR_PARTITIONS


def _check(name: str, right: bool, given: object) -> None:
    if not right:
        raise ConfigurationError(f"{name}={given!r} is refused: give a number above 0")
