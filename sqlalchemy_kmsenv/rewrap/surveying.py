"""``survey``: which keys the envelopes of a column are under."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sqlalchemy_kmsenv.errors import EnvelopeError
from sqlalchemy_kmsenv.rewrap.headers import HeaderReader
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import Writer


class Surveying:
    """Counts envelopes by KMS key and key material."""

    writer: Writer | None = None
    whole_values = False
    notes: AbstractSet[str] = frozenset()

    def __init__(self, table: RawTable, headers: HeaderReader) -> None:
        self.table = table
        self._headers = headers

    def examine(self, rows: Rows) -> Outcome:
        """Look at the headers of rows that were just read."""
        outcome = Outcome()
        width = len(self.table.key)
        places: dict[bytes, tuple[bytes, bytes]] = {}
        size = 0
        for row in rows:
            raw = row[width]
            if raw is None:
                outcome.null += 1
                continue
            place = places.get(raw[:size])
            if place is None:
                try:
                    header = self._headers.read(row)
                except EnvelopeError as error:
                    outcome.fail(key_of(row, width), error)
                    continue
                size = header.size
                reference = header.reference
                place = (reference.fingerprint, reference.material_hint)
                places[bytes(raw[:size])] = place
            outcome.tally[place] += 1
            outcome.current += 1
        return outcome
