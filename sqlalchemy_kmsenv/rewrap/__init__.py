"""Jobs over whole tables: survey, re-wrap, re-encrypt and verify, while the application writes.

docs/rewrap.md says what each promises, what the counts mean, and how to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Unpack

from sqlalchemy import Engine, MetaData

from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.rewrap.checkpoints import FileCheckpoint, TableCheckpoint
from sqlalchemy_kmsenv.rewrap.options import JobOptions, PassOptions, Settings
from sqlalchemy_kmsenv.rewrap.plans import FormerBinding, JobSource, commitments
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
from sqlalchemy_kmsenv.rewrap.running import Run
from sqlalchemy_kmsenv.rewrap.summaries import surveyed
from sqlalchemy_kmsenv.rewrap.work import REENCRYPT, REWRAP, SURVEY, VERIFY

__all__ = [
    "MAX_FAILURES",
    "CheckpointError",
    "ColumnReport",
    "ColumnSurvey",
    "Counts",
    "Failure",
    "FileCheckpoint",
    "FormerBinding",
    "JobOptions",
    "JobSource",
    "KeyCount",
    "MissingPermission",
    "PassOptions",
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


def survey(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    **options: Unpack[PassOptions],
) -> Survey:
    """Count the envelopes of each column by KMS key and key material.

    Reads headers alone, in keyset pages, and calls nothing but ``DescribeKey``.
    ``columns`` are as for ``rewrap``, ``options`` the fields of ``PassOptions``.

    Raises:
        ConfigurationError: there is no encrypted column, a table has no primary
            key, or no keyring is attached.
        KeyServiceError: the key service does not describe its keys.
    """
    foreign = options.keys() - PassOptions.__annotations__.keys()
    if foreign:
        raise TypeError(f"survey() takes no {', '.join(sorted(foreign))}")
    run = Run(engine, metadata, SURVEY, columns, Settings(**options))
    run.run(None)
    return surveyed(metadata, run)


def rewrap(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    dry_run: bool = False,
    verify_material: bool = False,
    **options: Unpack[JobOptions],
) -> Report:
    """Bring every envelope to the current material of its keyring's KMS key (ReEncrypt).

    Payload bytes stay as they are, the plaintext data key never leaves the KMS, and
    ``kms:Decrypt`` is not needed. One KMS call for each distinct wrapped data key. Where
    a data key stands wrapped in several ways, a role that may ``kms:Decrypt`` brings them
    together, one call for each (docs/rewrap.md).

    Args:
        engine: of the database; every page has transactions of its own.
        metadata: whose keyrings are attached.
        columns: encrypted columns as ``"table.column"``, columns of a table or mapped
            attributes; all of the MetaData by default.
        dry_run: count what would be done; nothing is written, no data key is wrapped,
            and no checkpoint is read or kept.
        verify_material: ask the KMS (ReEncrypt) about each wrapped data key whose header
            names the target, too. Headers are not authenticated; without this the report
            says what they say. What was false is mended, and counted as ``false_headers``.
        options: the fields of ``JobOptions``.

    Raises:
        ConfigurationError: as for ``survey``, or an option cannot be right.
        CheckpointError: the checkpoint is another job's, or damaged.
        PreflightError: the key service would refuse what is needed; nothing was done.
        KeyServiceError: the key service does not describe its key.
    """
    return Run(
        engine,
        metadata,
        REWRAP,
        columns,
        Settings(**options),
        dry_run=dry_run,
        verify_material=verify_material,
    ).report()


def reencrypt(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    former: FormerBinding | None = None,
    data_keys: Iterable[str] | None = None,
    convert: Callable[[Any], Any] | None = None,
    dry_run: bool = False,
    **options: Unpack[JobOptions],
) -> Report:
    """Open every value and seal it anew under fresh data keys: new payload, new binding.

    Without ``former`` and ``data_keys`` every envelope is sealed anew, each time. A dry
    run opens the values.

    Args:
        engine: as for ``rewrap``.
        metadata: as for ``rewrap``.
        columns: as for ``rewrap``; ``former`` is about each of them.
        former: what the values were bound to. Values that open as the model says now
            are left alone.
        data_keys: commitments (hexadecimal, FORMAT.md 3.1) of the data keys that may
            have leaked; values under others are left alone. Not together with ``former``.
            Once no value of any column is under them, the attached keyrings refuse them
            in this process; ``Keyring(revoked=[...])`` makes others do so.
        convert: makes a value that the column holds of one of a type that it had; values
            that it holds are left alone. Without it values of another type fail.
        dry_run: as for ``rewrap``.
        options: the fields of ``JobOptions``.

    Raises:
        ConfigurationError, CheckpointError, PreflightError, KeyServiceError: as for
            ``rewrap``.
    """
    if former is not None and data_keys is not None:
        raise ConfigurationError(
            "former=... and data_keys=... cannot go together: a job with former=... leaves alone"
            " what opens as the model says now, whichever data key it is under. Run the job with"
            " former=... first, then one with data_keys=..."
        )
    leaked = None if data_keys is None else commitments(data_keys)
    report = Run(
        engine,
        metadata,
        REENCRYPT,
        columns,
        Settings(**options),
        dry_run=dry_run,
        convert=convert,
        former=None if former is None else former.settled(),
        data_keys=leaked,
    ).report()
    if leaked and report.ok and columns is None and not dry_run:
        # Nothing is left under them: what comes up under one from now on was forged.
        for keyring in attached_keyrings(metadata).values():
            keyring.revoke(*(commitment.hex() for commitment in leaked))
    return report


def verify(
    engine: Engine,
    metadata: MetaData,
    *,
    columns: Sequence[Any] | None = None,
    **options: Unpack[JobOptions],
) -> Report:
    """Open every value, and report those that do not open, and where.

    ``columns`` are as for ``rewrap``, ``options`` the fields of ``JobOptions``. Writes
    nothing but a checkpoint.

    Raises:
        ConfigurationError, CheckpointError, PreflightError, KeyServiceError: as for
            ``rewrap``.
    """
    return Run(engine, metadata, VERIFY, columns, Settings(**options)).report()
