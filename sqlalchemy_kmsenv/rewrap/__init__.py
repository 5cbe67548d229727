"""Jobs over whole tables: survey, re-wrap, re-encrypt and verify, while the application writes.

docs/rewrap.md says what each promises, what the counts mean, and how to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData

from sqlalchemy_kmsenv.rewrap.checkpoints import FileCheckpoint, TableCheckpoint
from sqlalchemy_kmsenv.rewrap.plans import FormerBinding, JobSource
from sqlalchemy_kmsenv.rewrap.refusals import CheckpointError, MissingPermission, PreflightError
from sqlalchemy_kmsenv.rewrap.reports import (
    MAX_FAILURES,
    ColumnReport,
    ColumnSurvey,
    Counts,
    Failure,
    KeyCount,
    Progress,
    Report,
    Survey,
    TargetReport,
)

__all__ = [
    "MAX_FAILURES",
    "CheckpointError",
    "ColumnReport",
    "ColumnSurvey",
    "Counts",
    "Failure",
    "FileCheckpoint",
    "FormerBinding",
    "JobSource",
    "KeyCount",
    "MissingPermission",
    "PreflightError",
    "Progress",
    "Report",
    "Survey",
    "TableCheckpoint",
    "TargetReport",
    "reencrypt",
    "rewrap",
    "survey",
    "verify",
]

Checkpoint = FileCheckpoint | TableCheckpoint | str | Path


def survey(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    batch_size: int = 1000,
    workers: int = 1,
    partitions: int | None = None,
    executor: Executor | None = None,
    source: JobSource | None = None,
    rows_per_second: float | None = None,
    count_rows: bool = True,
    on_progress: Callable[[Progress], object] | None = None,
) -> Survey:
    """Count the envelopes of each column by KMS key and key material.

    Reads headers alone, in keyset pages, and calls nothing but ``DescribeKey``. The
    options are those of ``rewrap``.

    Raises:
        ConfigurationError: there is no encrypted column, a table has no primary
            key, or no keyring is attached.
        KeyServiceError: the key service does not describe its keys.
    """
    raise NotImplementedError


def rewrap(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    batch_size: int = 1000,
    kms_per_second: float | None = None,
    rows_per_second: float | None = None,
    workers: int = 1,
    partitions: int | None = None,
    executor: Executor | None = None,
    source: JobSource | None = None,
    checkpoint: Checkpoint | None = None,
    dry_run: bool = False,
    preflight: bool = True,
    count_rows: bool = True,
    give_up_after: int = 100,
    kms_patience_seconds: float = 60.0,
    on_progress: Callable[[Progress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Bring every envelope to the current material of its keyring's KMS key (ReEncrypt).

    Payload bytes stay as they are, the plaintext data key never leaves the KMS, and
    ``kms:Decrypt`` is not needed. One KMS call for each distinct wrapped data key.

    Args:
        engine: of the database; every page has transactions of its own.
        metadata: whose keyrings are attached.
        columns: encrypted columns as ``"table.column"``, columns of a table or mapped
            attributes; all of the MetaData by default.
        batch_size: rows of a page, and of a transaction.
        kms_per_second: KMS calls at most, over all workers; so ``rows_per_second``.
        workers: threads, where no ``executor`` is given.
        partitions: into how many ranges of the key a table is cut; by default as many
            as ``workers``, or 8 with an ``executor``.
        executor: any ``concurrent.futures.Executor``; it is not shut down.
        source: what another process needs, for an ``executor`` that pickles.
        checkpoint: where to keep how far the job is, and to go on from: a path or a
            ``FileCheckpoint``, or a ``TableCheckpoint``. It is removed when the job
            is complete.
        dry_run: count what would be done; nothing is written, no KMS call is made.
        preflight: ask the key service first what it would refuse.
        count_rows: count each table first, for ``Progress.total``.
        give_up_after: rows in a row that the key service refuses before the job stops.
        kms_patience_seconds: how long a key service that is throttled or away is
            waited for before the job stops.
        on_progress: called in this thread after each page, or each second.
        should_stop: asked in between; where True, the job stops after the pages in hand.

    Raises:
        ConfigurationError: as for ``survey``, or an option cannot be right.
        CheckpointError: the checkpoint is another job's, or damaged.
        PreflightError: the key service would refuse what is needed; nothing was done.
        KeyServiceError: the key service does not describe its key.
    """
    raise NotImplementedError


def reencrypt(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    former: FormerBinding | None = None,
    data_keys: Iterable[str] | None = None,
    batch_size: int = 1000,
    kms_per_second: float | None = None,
    rows_per_second: float | None = None,
    workers: int = 1,
    partitions: int | None = None,
    executor: Executor | None = None,
    source: JobSource | None = None,
    checkpoint: Checkpoint | None = None,
    dry_run: bool = False,
    preflight: bool = True,
    count_rows: bool = True,
    give_up_after: int = 100,
    kms_patience_seconds: float = 60.0,
    on_progress: Callable[[Progress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Open every value and seal it anew under fresh data keys: new payload, new binding.

    Without ``former`` and ``data_keys`` every envelope is sealed anew, each time. The
    other options are those of ``rewrap``.

    Args:
        engine: as for ``rewrap``.
        metadata: as for ``rewrap``.
        columns: as for ``rewrap``; ``former`` is about each of them.
        former: what the values were bound to. Values that open as the model says now
            are left alone.
        data_keys: commitments (hexadecimal) of the data keys that may have leaked;
            values under others are left alone.

    Raises:
        ConfigurationError, CheckpointError, PreflightError, KeyServiceError: as for
            ``rewrap``.
    """
    raise NotImplementedError


def verify(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    batch_size: int = 1000,
    kms_per_second: float | None = None,
    rows_per_second: float | None = None,
    workers: int = 1,
    partitions: int | None = None,
    executor: Executor | None = None,
    source: JobSource | None = None,
    checkpoint: Checkpoint | None = None,
    preflight: bool = True,
    count_rows: bool = True,
    give_up_after: int = 100,
    kms_patience_seconds: float = 60.0,
    on_progress: Callable[[Progress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Open every value, and report those that do not open, and where.

    The options are those of ``rewrap``. Writes nothing.

    Raises:
        ConfigurationError, CheckpointError, PreflightError, KeyServiceError: as for
            ``rewrap``.
    """
    raise NotImplementedError
