"""``rewrap``: the same payload behind a data key that the target wraps."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.envelope import parse_header, serialize_header
from sqlalchemy_kmsenv.errors import KmsEnvError, WrongCellError
from sqlalchemy_kmsenv.keyring import ContextPairs
from sqlalchemy_kmsenv.rewrap.headers import HeaderReader
from sqlalchemy_kmsenv.rewrap.proving import Prover
from sqlalchemy_kmsenv.rewrap.renewing import Renewer, RowRenewer, Wrapping
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows, stored_bytes
from sqlalchemy_kmsenv.rewrap.targets import Target
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import NEW, OLD, CellWriter, Write, Writer


@dataclass(slots=True, eq=False)
class _Group:
    """The rows of a page with one header and one encryption context."""

    header: bytes
    value_type: int
    wrapping: Wrapping
    rows: list[Row[Any]] = field(default_factory=list)


class ReWrapping:
    """Brings envelopes to the target, one KMS call for each distinct wrapped data key."""

    whole_values = False

    def __init__(
        self,
        table: RawTable,
        headers: HeaderReader,
        binding: Binding,
        target: Target,
        *,
        renewer: Renewer | RowRenewer,
        prover: Prover | None,
        dry_run: bool,
    ) -> None:
        self.table = table
        self.writer: Writer | None = CellWriter(table).splice
        self.notes: AbstractSet[str] = renewer.notes
        self._headers = headers
        self._binding = binding
        self._target = target
        self._renewer = renewer
        self._prover = prover
        self._dry_run = dry_run

    def examine(self, rows: Rows) -> Outcome:
        """Look at the headers of rows that were just read, and wrap their data keys anew."""
        outcome = Outcome()
        groups = self._groups(rows, outcome)
        if self._prover is not None:
            for group in groups:
                self._prover.prove(group.wrapping)
        if not self._dry_run:
            due = [group.wrapping for group in groups if group.wrapping.error is None]
            self._renewer.settle(due)
        width = len(self.table.key)
        names = self.table.key_names
        for group in groups:
            wrapping, header = group.wrapping, group.header
            outcome.false_headers += len(group.rows) if wrapping.mended is not None else 0
            if wrapping.error is not None:
                for row in group.rows:
                    outcome.fail(key_of(row, width), wrapping.error)
            elif self._dry_run and not wrapping.stays(self._target):
                outcome.writes += [{} for _ in group.rows]
            elif wrapping.renewed is None:
                outcome.current += len(group.rows)
            else:
                new = serialize_header(wrapping.renewed, group.value_type)
                for row in group.rows:
                    write: Write = dict(zip(names, row, strict=False))
                    write[OLD], write[NEW] = header, new
                    outcome.writes.append(write)
        return outcome

    def _groups(self, rows: Rows, outcome: Outcome) -> list[_Group]:
        width = len(self.table.key)
        pairs_key = self._pairs_key(width)
        groups: dict[tuple[bytes, bytes], _Group] = {}
        size = 0
        for row in rows:
            raw = row[width]
            if raw is None:
                outcome.null += 1
                continue
            # A header tells its own length: bytes that equal a parsed one are that header.
            group = groups.get((pairs_key(row), raw[:size]))
            if group is None:
                try:
                    start = self._headers.start(row)
                    header = parse_header(start)
                    pairs = pairs_of_row(self._binding, row, width)
                except KmsEnvError as error:
                    outcome.fail(key_of(row, width), error)
                    continue
                size = header.size
                group = _Group(start[:size], header.value_type, Wrapping(pairs, header.reference))
                group = groups.setdefault((pairs_key(row), group.header), group)
            group.rows.append(row)
        return list(groups.values())

    def _pairs_key(self, width: int) -> Callable[[Row[Any]], bytes]:
        if self._binding.shares_data_keys:
            return lambda _: b""
        pairs_key = self._binding.pairs_key
        return lambda row: pairs_key(stored_bytes(row[width + 2]))


def pairs_of_row(binding: Binding, row: Row[Any], width: int, place: int = 0) -> ContextPairs:
    """The encryption context of a row's data key; ``place`` is that of its section.

    Raises:
        WrongCellError: what the row is in is not of the kind that the model says.
    """
    section = b"" if binding.shares_data_keys else stored_bytes(row[width + 2 + place])
    try:
        return binding.pairs(section)
    except (ValueError, IndexError):
        raise WrongCellError(
            f"{binding.column.table.name}.{binding.column.name}: the row's key or scope is not of"
            " the type that the model says, so that no value can be bound to it"
        ) from None
