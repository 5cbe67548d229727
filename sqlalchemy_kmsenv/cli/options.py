"""The options that the jobs share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import click
from sqlalchemy import Engine, MetaData

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.cli.checkpoint_files import CheckpointFile
from sqlalchemy_kmsenv.cli.clusters import dask_executor
from sqlalchemy_kmsenv.cli.database import Database, database_option
from sqlalchemy_kmsenv.cli.progress import shown_progress
from sqlalchemy_kmsenv.cli.refusals import in_words
from sqlalchemy_kmsenv.cli.stopping import stopped_by_signals
from sqlalchemy_kmsenv.cli.subject import Models, models_options
from sqlalchemy_kmsenv.rewrap import JobSource, PassOptions

_Command = Callable[..., Any]

_POSITIVE = click.IntRange(min=1)
_RATE = click.FloatRange(min=0, min_open=True)

to_option = click.option(
    "--to",
    metavar="[NAME=]URI",
    multiple=True,
    help="KMS key to come to, in the place of the keyring's own, which may then only unwrap.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Count what would be done.")


class KmsOptions(TypedDict):
    """How a job calls the key service; the names are those of ``JobOptions``."""

    kms_per_second: float | None
    preflight: bool
    give_up_after: int


@dataclass(frozen=True, slots=True)
class Started:
    """A job that may begin."""

    engine: Engine
    metadata: MetaData
    columns: tuple[str, ...]
    options: PassOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every job is given: the database, the models, and how to go through the rows."""

    database: Database
    models: Models
    batch_size: int
    rows_per_second: float | None
    workers: int
    partitions: int | None
    dask: str | None
    count_rows: bool

    @contextmanager
    def started(self) -> Iterator[Started]:
        """Models, database and workers, made ready; errors end the command in words."""
        with in_words(), ExitStack() as stack:
            # First: the threads of what follows must leave the signals to it.
            stopping = stack.enter_context(stopped_by_signals())
            metadata = self.models()
            engine = stack.enter_context(self.database.engine(self.models, metadata))
            options = PassOptions(
                batch_size=self.batch_size,
                rows_per_second=self.rows_per_second,
                workers=self.workers,
                partitions=self.partitions,
                count_rows=self.count_rows,
            )
            if self.dask is not None:
                url = self.database.url.render_as_string(hide_password=False)
                options["executor"] = stack.enter_context(dask_executor(self.dask))
                options["source"] = JobSource(metadata=self.models, url=url)
            options["should_stop"] = stopping
            options["on_progress"] = stack.enter_context(shown_progress())
            columns = tuple(self.models.bindings(metadata))
            yield Started(engine, metadata, columns, options)


def job_options(command: _Command) -> _Command:
    """Options of every job; the command takes them as ``job``."""

    @database_option
    @models_options
    @click.option(
        "--batch-size",
        type=_POSITIVE,
        default=defaults.REWRAP_BATCH_ROWS,
        show_default=True,
        help="Rows of a page, and of a transaction.",
    )
    @click.option("--rows-per-second", type=_RATE, help="Rows at most, over all workers.")
    @click.option(
        "--workers", type=_POSITIVE, default=1, show_default=True, help="Threads, side by side."
    )
    @click.option(
        "--partitions",
        type=_POSITIVE,
        help="Ranges of the key that a table is cut into; by default as many as workers.",
    )
    @click.option("--dask", metavar="ADDRESS", help="Dask scheduler whose workers do the job.")
    @click.option(
        "--no-count", is_flag=True, help="Do not count the rows first; progress has no total then."
    )
    @functools.wraps(command)
    def with_job(
        *,
        database: Database,
        models: Models,
        batch_size: int,
        rows_per_second: float | None,
        workers: int,
        partitions: int | None,
        dask: str | None,
        no_count: bool,
        **others: Any,
    ) -> Any:
        job = Job(
            database=database,
            models=models,
            batch_size=batch_size,
            rows_per_second=rows_per_second,
            workers=workers,
            partitions=partitions,
            dask=dask,
            count_rows=not no_count,
        )
        return command(job=job, **others)

    return with_job


def kms_options(command: _Command) -> _Command:
    """Options of every job that calls the key service; the command takes them as ``kms``."""

    @click.option("--kms-per-second", type=_RATE, help="KMS calls at most, over all workers.")
    @click.option(
        "--give-up-after",
        type=_POSITIVE,
        default=defaults.REWRAP_GIVE_UP_AFTER_ROWS,
        show_default=True,
        help="Rows in a row that the key service refuses before the job stops.",
    )
    @click.option(
        "--no-preflight",
        is_flag=True,
        help="Do not ask the key service first what it would refuse.",
    )
    @functools.wraps(command)
    def with_kms(
        *, kms_per_second: float | None, give_up_after: int, no_preflight: bool, **others: Any
    ) -> Any:
        kms = KmsOptions(
            kms_per_second=kms_per_second, preflight=not no_preflight, give_up_after=give_up_after
        )
        return command(kms=kms, **others)

    return with_kms


def checkpoint_options(command: _Command) -> _Command:
    """``--checkpoint`` and ``--resume``; the command takes them as ``checkpoint``."""

    @click.option(
        "--checkpoint",
        "checkpoint_path",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File that keeps how far the job is; by default in the current directory, named after"
        " the job.",
    )
    @click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one.")
    @functools.wraps(command)
    def with_checkpoint(*, checkpoint_path: Path | None, resume: bool, **others: Any) -> Any:
        return command(checkpoint=CheckpointFile(checkpoint_path, resume), **others)

    return with_checkpoint
