"""``rewrap``: the same payload behind a data key that the target wraps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.envelope import InlineReference, parse_header, serialize_header
from sqlalchemy_kmsenv.errors import KmsEnvError, WrongCellError
from sqlalchemy_kmsenv.keyring import ContextPairs, Keyring
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.rewrap.headers import HeaderReader
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows, stored_bytes
from sqlalchemy_kmsenv.rewrap.targets import Target
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import NEW, OLD, CellWriter, Write, Writer


class _Renewed:
    """A reference wrapped anew; holds no secret, and may be used as long as it is remembered."""

    __slots__ = ("reference",)

    def __init__(self, reference: InlineReference) -> None:
        self.reference = reference

    def usable(self) -> bool:
        return True

    def drop(self) -> None:
        pass

    def retire(self) -> None:
        pass

    def reset_locks(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of all rows with one header and one encryption context."""

    header: bytes
    new_header: bytes | None = None
    """None where the header stays."""
    error: KmsEnvError | None = None


class ReWrapping:
    """Brings envelopes to the target, one KMS call for each distinct wrapped data key."""

    whole_values = False

    def __init__(
        self,
        table: RawTable,
        headers: HeaderReader,
        binding: Binding,
        keyring: Keyring,
        target: Target,
        *,
        dry_run: bool,
    ) -> None:
        self.table = table
        self.writer: Writer | None = CellWriter(table).splice
        self._headers = headers
        self._binding = binding
        self._keyring = keyring
        self._target = target
        self._dry_run = dry_run
        self._renewed: FlightStore[tuple[ContextPairs, InlineReference], _Renewed] = FlightStore(
            defaults.REWRAP_CACHE_ENTRIES
        )

    def examine(self, rows: Rows) -> Outcome:
        """Look at the headers of rows that were just read, and wrap their data keys anew."""
        outcome = Outcome()
        width = len(self.table.key)
        names = self.table.key_names
        pairs_key = self._pairs_key(width)
        verdicts: dict[tuple[bytes, bytes], _Verdict] = {}
        size = 0
        for row in rows:
            raw = row[width]
            if raw is None:
                outcome.null += 1
                continue
            # A header tells its own length: bytes that equal a parsed one are that header.
            verdict = verdicts.get((pairs_key(row), raw[:size]))
            if verdict is None:
                try:
                    start = self._headers.start(row)
                    verdict = self._verdict(row, start)
                except KmsEnvError as error:
                    outcome.fail(key_of(row, width), error)
                    continue
                size = len(verdict.header)
                verdicts[pairs_key(row), verdict.header] = verdict
            if verdict.error is not None:
                outcome.fail(key_of(row, width), verdict.error)
            elif verdict.new_header is None:
                outcome.current += 1
            else:
                write: Write = dict(zip(names, row, strict=False))
                write[OLD] = verdict.header
                write[NEW] = verdict.new_header
                outcome.writes.append(write)
        return outcome

    def _pairs_key(self, width: int) -> Callable[[Row[Any]], bytes]:
        if self._binding.shares_data_keys:
            return lambda _: b""
        pairs_key = self._binding.pairs_key
        return lambda row: pairs_key(stored_bytes(row[width + 2]))

    def _verdict(self, row: Row[Any], start: bytes) -> _Verdict:
        header = parse_header(start)
        if self._target.wraps(header.reference):
            return _Verdict(start[: header.size])
        if self._dry_run:
            return _Verdict(start[: header.size], b"")
        try:
            pairs = pairs_of_row(self._binding, row, len(self.table.key))
            renewed = self._renew(pairs, header.reference)
        except KmsEnvError as error:
            return _Verdict(start[: header.size], error=error)
        return _Verdict(start[: header.size], serialize_header(renewed, header.value_type))

    def _renew(self, pairs: ContextPairs, reference: InlineReference) -> InlineReference:
        return self._renewed.get(
            (pairs, reference), lambda: _Renewed(self._keyring.rewrap(pairs, reference))
        ).reference


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
