"""How far a job is in one column, kept and told."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Workshop
from sqlalchemy_kmsenv.rewrap.options import Settings
from sqlalchemy_kmsenv.rewrap.partitions import Partition
from sqlalchemy_kmsenv.rewrap.reports import ColumnReport, Counts, Progress, capped


@dataclass(slots=True)
class ColumnState:
    """How far the job is in one column."""

    job: ColumnJob
    partitions: dict[int, Partition] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """The sums over the partitions."""
        return sum((each.counts for each in self.partitions.values()), Counts())

    @property
    def finished(self) -> bool:
        """Whether every row has been looked at."""
        partitions = self.partitions.values()
        return bool(partitions) and all(each.finished for each in partitions)

    def report(self) -> ColumnReport:
        """The column as the report shows it."""
        failures = capped(f for each in self.partitions.values() for f in each.failures)
        return ColumnReport(self.job.column, self.counts, failures, self.finished)


class Teller:
    """Tells the caller how far a column is."""

    def __init__(self, workshop: Workshop, settings: Settings, column: ColumnState) -> None:
        self._on_progress = settings.on_progress
        self._column = column
        self._began = time.monotonic()
        self._rows_before = column.counts.rows
        self._total: int | None = None
        if settings.on_progress is not None and settings.count_rows:
            # A statement timeout may cut it off, and the job can do without.
            with suppress(DBAPIError), workshop.engine.connect() as connection:
                self._total = workshop.desk(column.job).work.table.count(connection)

    def tell(self) -> None:
        """Call ``on_progress``, where there is one."""
        if self._on_progress is None:
            return
        counts = self._column.counts
        self._on_progress(
            Progress(
                kind=self._column.job.kind,
                column=self._column.job.column,
                counts=counts,
                total=self._total,
                seconds=time.monotonic() - self._began,
                rows_this_run=counts.rows - self._rows_before,
            )
        )
