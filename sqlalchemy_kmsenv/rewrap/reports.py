"""What jobs over whole tables tell: counts, failures and progress. Never a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

MAX_FAILURES = 100
"""Failures that a report names for each column; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How the rows that a job has seen ended; each row is in one of these but ``rows``."""

    rows: int = 0
    """All of them; the sum of the other counts but ``kms_calls`` and ``false_headers``."""
    rewritten: int = 0
    """Re-wrapped or re-encrypted; in a dry run, those that would be."""
    current: int = 0
    """Left as they were: at the target already."""
    opened: int = 0
    """Verified: the value opens."""
    changed: int = 0
    """Somebody else wrote or deleted the cell meanwhile, and went before the job."""
    failed: int = 0
    """Left as they were, for a reason that ``Failure`` tells."""
    null: int = 0
    not_envelopes: int = 0
    """Neither NULL nor an envelope; they are among the failures, too."""
    false_headers: int = 0
    """With ``verify_material``: the header named the target, and the KMS another key or material.
    They are among those rewritten, if they could be."""
    kms_calls: int = 0
    """Calls to the key service that wraps, unwraps or generates, tries included."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))


@dataclass(frozen=True, slots=True)
class Failure:
    """One row that a job could not serve."""

    row: tuple[str, ...]
    """Its primary key, as text."""
    error: str
    """Class of the error, such as ``WrongCellError``."""
    message: str
    """The error's own words: they hold no value, no key and no stored bytes."""
    finding: str = ""
    """What ``verify`` and ``reencrypt`` found, in the words of ``Finding``."""


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """What became of one column."""

    column: str
    """Table and column, as the database names them."""
    counts: Counts = field(default_factory=Counts)
    failures: tuple[Failure, ...] = ()
    """At most ``MAX_FAILURES``; ``counts`` has all."""
    finished: bool = False
    """Whether every row that was there has been looked at."""


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a ``rewrap``, ``reencrypt`` or ``verify``; a resumed job counts from its start."""

    kind: str
    """``rewrap``, ``reencrypt`` or ``verify``."""
    columns: tuple[ColumnReport, ...]
    dry_run: bool = False
    stopped: str | None = None
    """Why it ended before the last row; None where it did not. The next run goes on."""
    notes: tuple[str, ...] = ()
    """What could not be checked, and why, and what else is to be known."""
    seconds: float = 0.0
    moved_targets: tuple[str, ...] = ()
    """The columns whose KMS key or material was another at the end: not every row is there."""

    @property
    def complete(self) -> bool:
        """Whether every row has been looked at."""
        return self.stopped is None and all(column.finished for column in self.columns)

    @property
    def ok(self) -> bool:
        """Whether it is complete, all were envelopes with true headers, and none failed."""
        counts = self.counts
        amiss = counts.failed + counts.not_envelopes + counts.false_headers
        return self.complete and not amiss and not self.moved_targets

    @property
    def counts(self) -> Counts:
        """The sums over all columns."""
        return sum((column.counts for column in self.columns), Counts())

    def to_json(self) -> dict[str, Any]:
        """The whole report as what ``json.dumps`` takes."""
        return {**asdict(self), "complete": self.complete, "ok": self.ok}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; sent after every page, or about every second with an executor."""

    kind: str
    """``survey``, ``rewrap``, ``reencrypt`` or ``verify``."""
    column: str
    """The column in hand."""
    counts: Counts
    """Of this column so far, from the start of a job that was resumed."""
    total: int | None
    """Rows of this column when it began; None where it was not counted, or not in time."""
    seconds: float
    """Since this run began with the column."""
    rows_this_run: int
    """Rows since then: with ``seconds`` the rate."""


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Where ``rewrap`` would bring the envelopes of a column."""

    key_arn: str
    fingerprint: str
    """As envelopes carry it, hexadecimal."""
    material_hint: str | None
    """As envelopes carry it, hexadecimal; None where the key service does not tell its
    material, so that the KMS key alone decides."""
    state: str
    """``Enabled``, ``Disabled``, ...; ``unknown`` where the key service does not tell."""


@dataclass(frozen=True, slots=True)
class KeyCount:
    """How many envelopes stand under one material of one KMS key."""

    fingerprint: str
    key_arn: str | None
    """None where the keyring does not list the key: such values cannot be opened."""
    material_hint: str | None
    """None where the envelopes do not say it."""
    envelopes: int
    at_target: bool


@dataclass(frozen=True, slots=True)
class ColumnSurvey:
    """What one column holds, from the headers of its envelopes alone."""

    column: str
    target: TargetReport
    keys: tuple[KeyCount, ...] = ()
    """The target first, then the most frequent."""
    null: int = 0
    not_envelopes: int = 0
    failures: tuple[Failure, ...] = ()
    """Some of the rows that hold no envelope."""

    @property
    def envelopes(self) -> int:
        """All envelopes."""
        return sum(key.envelopes for key in self.keys)

    @property
    def not_at_target(self) -> int:
        """Envelopes that ``rewrap`` would change."""
        return sum(key.envelopes for key in self.keys if not key.at_target)

    def to_json(self) -> dict[str, Any]:
        """The survey of the column as what ``json.dumps`` takes."""
        sums = {"envelopes": self.envelopes, "not_at_target": self.not_at_target}
        return {**asdict(self), **sums}


@dataclass(frozen=True, slots=True)
class Survey:
    """What all encrypted columns hold."""

    columns: tuple[ColumnSurvey, ...]
    stopped: str | None = None
    """Why it ended before the last row; None where it did not."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is complete, and every value an envelope at the target."""
        amiss = any(column.not_at_target or column.not_envelopes for column in self.columns)
        return self.stopped is None and not amiss

    def to_json(self) -> dict[str, Any]:
        """The whole survey as what ``json.dumps`` takes."""
        columns = [column.to_json() for column in self.columns]
        return {
            "columns": columns,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "ok": self.ok,
        }


def capped(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """As many failures as a report names."""
    return tuple(failures)[:MAX_FAILURES]
