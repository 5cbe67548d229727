"""What a job does with a page of rows: the seam between going through a table and its kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Row

from sqlalchemy_kmsenv.errors import EnvelopeError, KeyServiceError, KmsEnvError
from sqlalchemy_kmsenv.rewrap.keyed import Key, key_text
from sqlalchemy_kmsenv.rewrap.reports import Counts, Failure
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows
from sqlalchemy_kmsenv.rewrap.writing import Write, Writer

SURVEY, REWRAP, REENCRYPT, VERIFY = "survey", "rewrap", "reencrypt", "verify"


@dataclass(slots=True)
class Outcome:
    """What was found in some rows, and the UPDATEs that are due."""

    current: int = 0
    opened: int = 0
    null: int = 0
    not_envelopes: int = 0
    failed: int = 0
    refused: int = 0
    """Of those failed, the ones that the key service refused."""
    refusal: Failure | None = None
    """The last of those."""
    failures: list[Failure] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    """For ``Work.writer``."""
    false_headers: int = 0
    held: list[Key] = field(default_factory=list)
    """Rows that were to be written, and that somebody else has locked."""
    tally: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)

    def fail(self, key: Key, error: Exception, finding: str = "") -> None:
        """Record that a row cannot be served."""
        if isinstance(error, EnvelopeError):
            self.not_envelopes += 1
        else:
            self.failed += 1
        failure = Failure(key_text(key), type(error).__name__, str(error), finding)
        self.failures.append(failure)
        if isinstance(error, KeyServiceError):
            self.refused += 1
            self.refusal = failure

    def fail_as(self, key: Key, error: str, message: str) -> None:
        """Record a row that somebody else than this library refuses."""
        self.failed += 1
        self.failures.append(Failure(key_text(key), error, message))

    def counts(self, rows: int, *, rewritten: int, kms_calls: int) -> Counts:
        """The counts of so many rows; those that ended in no other way were changed meanwhile."""
        settled = self.current + self.opened + self.failed + self.null + self.not_envelopes
        return Counts(
            rows=rows,
            rewritten=rewritten,
            current=self.current,
            opened=self.opened,
            changed=rows - settled - rewritten,
            failed=self.failed,
            null=self.null,
            not_envelopes=self.not_envelopes,
            false_headers=self.false_headers,
            kms_calls=kms_calls,
        )


class Work(Protocol):
    """One kind of job on one column."""

    table: RawTable
    writer: Writer | None
    """What ``Outcome.writes`` are for; None where the job writes nothing."""
    whole_values: bool
    """Whether values are opened, so that their size counts."""
    notes: AbstractSet[str]
    """What else is to be known, so far."""

    def examine(self, rows: Rows) -> Outcome:
        """Look at rows that were just read.

        Raises:
            StopJobError: the key service is away, or the job is to stop.
        """
        ...


class UnreachedRowError(KmsEnvError):
    """An UPDATE by primary key does not reach a row that can be read."""


def key_of(row: Row[Any], width: int) -> Key:
    """The key parts that a row begins with."""
    return tuple(row[:width])
