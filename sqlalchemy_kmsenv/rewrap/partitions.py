"""A table's keys in ranges, and how far a job is in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from sqlalchemy_kmsenv.printable import printable
from sqlalchemy_kmsenv.rewrap.keyed import Key, key_from_json, key_to_json
from sqlalchemy_kmsenv.rewrap.reports import Counts, Failure, capped
from sqlalchemy_kmsenv.rewrap.tables import RawTable

_T = TypeVar("_T")

Tally = Mapping[tuple[bytes, bytes], int]
"""Envelopes by fingerprint and material hint."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows whose key is greater than ``after`` and not greater than ``upto``."""

    number: int
    after: Key | None = None
    """Moves on with each page; None before the first row of the table."""
    upto: Key | None = None
    """None where there is no bound, so that rows at the end are seen that come meanwhile."""
    finished: bool = False
    counts: Counts = field(default_factory=Counts)
    failures: tuple[Failure, ...] = ()
    tally: Tally | None = None
    refused: int = 0
    """Rows in a row that the key service refused, up to ``after``."""
    held: tuple[Key, ...] = ()
    """Rows up to ``after`` that others had locked; none of them is counted yet."""
    before_refusals: Partition | None = None
    """Where the job goes on if it gives up: those rows were never really looked at."""

    def moved(self, after: Key | None, counts: Counts, failures: list[Failure]) -> Partition:
        """This partition one page further."""
        failed = capped((*self.failures, *failures)) if failures else self.failures
        return replace(self, after=after, counts=self.counts + counts, failures=failed)

    @property
    def to_keep(self) -> Partition:
        """What a checkpoint keeps."""
        return self.before_refusals or self

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {
            "number": self.number,
            "after": key_to_json(self.after),
            "upto": key_to_json(self.upto),
            "finished": self.finished,
            "counts": asdict(self.counts),
            "failures": [asdict(failure) for failure in self.failures],
            "held": [key_to_json(key) for key in self.held],
        }

    @classmethod
    def from_json(cls, document: Any) -> Partition:
        """The partition that ``to_json`` wrote.

        Raises:
            ValueError, KeyError, TypeError: it did not write that.
        """
        return cls(
            number=_of_type(int, document["number"]),
            after=key_from_json(document["after"]),
            upto=key_from_json(document["upto"]),
            finished=_of_type(bool, document["finished"]),
            counts=_counts(document["counts"]),
            failures=tuple(map(_failure, document["failures"])),
            held=tuple(key for key in map(key_from_json, document.get("held", ())) if key),
        )


def _of_type(kind: type[_T], value: Any) -> _T:
    if type(value) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return value


def _counts(document: Any) -> Counts:
    if any(_of_type(int, number) < 0 for number in document.values()):
        raise ValueError("a count below zero")
    return Counts(**document)


def _failure(document: Any) -> Failure:
    # A table of checkpoints may have been written by others: its words are shown to a person.
    words = {n: printable(_of_type(str, text)) for n, text in document.items() if n != "row"}
    row = tuple(printable(_of_type(str, text)) for text in _of_type(list, document["row"]))
    return Failure(row=row, **words)


def cut(connection: Connection, table: RawTable, parts: int) -> list[Partition]:
    """The whole table in at most ``parts`` ranges of about the same size.

    A single integer key is cut by arithmetic between its least and its greatest
    value, any other by one pass over the keys.
    """
    bounds = list(dict.fromkeys(_bounds(connection, table, parts))) if parts > 1 else []
    ends: list[Key | None] = [None, *bounds]
    return [
        Partition(number, after, upto)
        for number, (after, upto) in enumerate(zip(ends, [*bounds, None], strict=True))
    ]


def _bounds(connection: Connection, table: RawTable, parts: int) -> list[Key]:
    if len(table.key) > 1:
        return table.sampled_keys(connection, parts)
    least, greatest = table.extremes(connection)
    if type(least) is not int or type(greatest) is not int:
        return table.sampled_keys(connection, parts)
    span = greatest - least + 1
    steps = (least - 1 + span * number // parts for number in range(1, parts))
    return [(step,) for step in steps if least <= step < greatest]
