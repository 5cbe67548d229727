"""A job from its first row to its last: columns in turn, partitions side by side."""

from __future__ import annotations

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, MetaData

from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError
from sqlalchemy_kmsenv.rewrap.checkpoints import CheckpointStore, Kept, TableCheckpoint, store_of
from sqlalchemy_kmsenv.rewrap.crew import Crew, WorkerLostError, ended
from sqlalchemy_kmsenv.rewrap.decoding import Convert
from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Workshop
from sqlalchemy_kmsenv.rewrap.identity import identity_of
from sqlalchemy_kmsenv.rewrap.options import Checkpoint, Settings
from sqlalchemy_kmsenv.rewrap.partitions import cut
from sqlalchemy_kmsenv.rewrap.plans import FormerBinding
from sqlalchemy_kmsenv.rewrap.preflight import Answers, ask_beforehand
from sqlalchemy_kmsenv.rewrap.progress import ColumnState, Teller
from sqlalchemy_kmsenv.rewrap.refusals import CheckpointError
from sqlalchemy_kmsenv.rewrap.reports import Report
from sqlalchemy_kmsenv.rewrap.slices import SliceResult
from sqlalchemy_kmsenv.rewrap.targets import (
    NO_TARGET,
    Target,
    binding_named,
    column_names,
    target_of,
)
from sqlalchemy_kmsenv.rewrap.work import VERIFY

_STOPPED = "it was asked to stop"
_SECRET, _SECRET_BYTES = "secret", 32


class Run:
    """One call of a job."""

    def __init__(
        self,
        engine: Engine,
        metadata: MetaData,
        kind: str,
        columns: Sequence[Any] | None,
        settings: Settings,
        *,
        dry_run: bool = False,
        former: FormerBinding | None = None,
        data_keys: frozenset[bytes] | None = None,
        verify_material: bool = False,
        convert: Convert | None = None,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._dry_run = dry_run
        self._workshop = Workshop(engine, metadata)
        self._began = time.monotonic()
        self._answers = Answers()
        self.stopped: str | None = None
        run, secret = uuid.uuid4().hex, os.urandom(_SECRET_BYTES)
        self.columns = [
            ColumnState(
                ColumnJob(
                    run=run,
                    kind=kind,
                    column=name,
                    target=NO_TARGET if kind == VERIFY else _target(metadata, name),
                    batch_size=settings.batch_size,
                    dry_run=dry_run,
                    former=former,
                    data_keys=data_keys,
                    verify_material=verify_material,
                    convert=convert,
                    kept=None if dry_run else _in_table(settings.checkpoint),
                    secret=secret,
                )
            )
            for name in column_names(metadata, columns)
        ]
        for column in self.columns:
            # Now, so that a table without a key is refused before the first row of another.
            self._workshop.desk(column.job)

    @property
    def seconds(self) -> float:
        """Since the call."""
        return time.monotonic() - self._began

    def report(self) -> Report:
        """Run to the end, or until something stops it.

        Raises:
            CheckpointError: it cannot be used, or another job is using it.
        """
        store = self._store()
        if store is None:
            return self._report(None)
        with store.held(self._workshop.engine) as alone:
            if not alone:
                raise CheckpointError(
                    "another job is at work with this checkpoint: wait for its end, or give each"
                    " job a checkpoint of its own"
                )
            return self._report(store)

    def _report(self, store: CheckpointStore | None) -> Report:
        kept = self._resume(store)
        if self._settings.preflight and not self._dry_run:
            for column in self.columns:
                ask_beforehand(self._workshop, column.job, self._answers)
            self._answers.raise_if_missing()
        if store is not None and kept is None:
            secret = self.columns[0].job.secret.hex()
            store.begin(self._workshop.engine, {**self._identity(), _SECRET: secret})
        self.run(store)
        if store is not None and self.stopped is None:
            store.clear(self._workshop.engine)
        self._forget_renewals()
        moved = self._moved_targets()
        return Report(
            kind=self._kind,
            columns=tuple(column.report() for column in self.columns),
            dry_run=self._dry_run,
            stopped=self.stopped,
            notes=tuple(self._answers.notes),
            seconds=self.seconds,
            moved_targets=moved,
        )

    def _forget_renewals(self) -> None:
        for column in self.columns:
            renewals = self._workshop.desk(column.job).renewals
            # Rows that failed are served by another run, which goes on with these.
            if renewals is not None and column.finished and not column.counts.failed:
                renewals.clear()

    def _moved_targets(self) -> tuple[str, ...]:
        """The columns whose target is another by now: rows that came early are not there."""
        if self._kind == VERIFY or self.stopped is not None:
            return ()
        moved = []
        for column in self.columns:
            name, target = column.job.column, column.job.target
            try:
                now = _target(self._workshop.metadata, name)
            except KeyServiceError as error:
                self._answers.notes.append(
                    f"{name}: whether the target moved is not known: {error}"
                )
                continue
            if (now.key_arn, now.hint) != (target.key_arn, target.hint):
                moved.append(name)
                self._answers.notes.append(
                    f"{name}: the KMS key was rotated, or is another, since the job began; not"
                    " every row is at its new target. Run the job again"
                )
        return tuple(moved)

    def run(self, store: CheckpointStore | None) -> None:
        """Go through the columns in turn."""
        with ExitStack() as stack:
            crew = Crew(self._settings, self._workshop, stack, self._is_stopping)
            for column in self.columns:
                if self._should_stop():
                    self.stopped = _STOPPED
                if self.stopped is not None:
                    return
                if not column.partitions:
                    self._cut(column, store)
                    if self.stopped is not None:
                        return
                self._run_column(column, crew, store)

    def _cut(self, column: ColumnState, store: CheckpointStore | None) -> None:
        engine = self._workshop.engine
        table = self._workshop.desk(column.job).work.table
        with engine.connect() as connection:
            found = cut(connection, table, self._settings.parts)
        column.partitions = {partition.number: partition for partition in found}
        if store is not None:
            self._keep(store.begin_column, engine, column.job.column, found)

    def _keep(self, keep: Callable[..., None], *given: Any) -> None:
        """Stop where the checkpoint cannot be written: what was done is in the report."""
        try:
            keep(*given)
        except CheckpointError as error:
            self.stopped = self.stopped or str(error)

    def _run_column(self, column: ColumnState, crew: Crew, store: CheckpointStore | None) -> None:
        progress = Teller(self._workshop, self._settings, column)
        waiting = deque(each for each in column.partitions.values() if not each.finished)
        flying: dict[Future[SliceResult], int] = {}
        try:
            while flying or (waiting and self.stopped is None):
                while waiting and self.stopped is None and len(flying) < crew.width:
                    active = min(crew.width, len(waiting) + len(flying))
                    partition = waiting.popleft()
                    future = crew.begin(column.job, partition, active)
                    flying[future] = partition.number
                for future in ended(flying):
                    del flying[future]
                    try:
                        result = crew.result(future)
                    except WorkerLostError as lost:
                        self.stopped = self.stopped or str(lost)
                        continue
                    partition = result.partition
                    column.partitions[partition.number] = partition
                    if store is not None:
                        self._keep(store.moved, column.job.column, partition)
                    if not partition.finished:
                        waiting.append(partition)
                    self.stopped = self.stopped or result.stopped
                    self._answers.note(result.notes)
                    progress.tell()
                if self._should_stop() and (waiting or flying):
                    self.stopped = self.stopped or _STOPPED
        finally:
            for future in flying:
                future.cancel()

    def _is_stopping(self) -> bool:
        return self.stopped is not None

    def _should_stop(self) -> bool:
        return self._settings.should_stop is not None and self._settings.should_stop()

    def _store(self) -> CheckpointStore | None:
        given = self._settings.checkpoint
        proves = self._kind == VERIFY or any(each.job.verify_material for each in self.columns)
        if proves and isinstance(given, TableCheckpoint):
            words = " with verify_material" if self._kind != VERIFY else ""
            raise ConfigurationError(
                f"{self._kind}{words} takes no TableCheckpoint: whoever may write to the database"
                " that it looks at could end it before its first row; give a file"
            )
        return None if given is None or self._dry_run else store_of(given)

    def _resume(self, store: CheckpointStore | None) -> Kept | None:
        loaded = None if store is None else store.load(self._workshop.engine)
        if loaded is None:
            return None
        job, kept = loaded
        own = self._identity()
        secret = None
        if isinstance(job, dict):
            secret, job = job.get(_SECRET), {n: v for n, v in job.items() if n != _SECRET}
        if job != own:
            differing = [
                name for name in own if not isinstance(job, dict) or job.get(name) != own[name]
            ]
            raise CheckpointError(
                f"the checkpoint is of another job: {', '.join(differing) or 'its form'} differ."
                " Finish that job as it was begun, or remove the checkpoint to begin anew: what is"
                " at the target stays as it is"
            )
        for column in self.columns:
            partitions = kept.get(column.job.column, ())
            column.partitions = {partition.number: partition for partition in partitions}
            if isinstance(secret, str):
                column.job = replace(column.job, secret=_secret(secret))
        self._workshop.close_desks()
        return kept

    def _identity(self) -> dict[str, Any]:
        return identity_of(self._workshop, [column.job for column in self.columns])


def _secret(kept: str) -> bytes:
    try:
        return bytes.fromhex(kept)
    except ValueError as error:
        raise CheckpointError(
            "the checkpoint was altered: its secret is none. Remove it, and the job begins anew"
        ) from error


def _target(metadata: MetaData, column: str) -> Target:
    return target_of(keyring_of(binding_named(metadata, column)))


def _in_table(checkpoint: Checkpoint | None) -> TableCheckpoint | None:
    return checkpoint if isinstance(checkpoint, TableCheckpoint) else None
