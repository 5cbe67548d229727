"""Headers from the first bytes of a value, or from more where those do not hold them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Row

from sqlalchemy_kmsenv.envelope import MAX_WRAPPED_BYTES, Header, parse_header
from sqlalchemy_kmsenv.errors import EnvelopeError
from sqlalchemy_kmsenv.rewrap.tables import RawTable, stored_bytes
from sqlalchemy_kmsenv.rewrap.work import key_of

_LONGEST = MAX_WRAPPED_BYTES + 128
"""More than the longest header, its nonce and a tag take."""


class HeaderReader:
    """Parses headers, and reads the rows again whose headers are long."""

    def __init__(self, engine: Engine, table: RawTable) -> None:
        self._engine = engine
        self._table = table

    def read(self, row: Row[Any]) -> Header:
        """The header of a row's value, which is not NULL.

        Raises:
            EnvelopeError: it is no envelope.
        """
        return parse_header(self.start(row))

    def start(self, row: Row[Any]) -> bytes:
        """The first bytes of a row's value, the whole header among them if it has one."""
        width = len(self._table.key)
        raw, size = stored_bytes(row[width]), row[width + 1]
        try:
            parse_header(raw)
        except EnvelopeError:
            if len(raw) >= size:
                return raw
            with self._engine.connect() as connection:
                again = self._table.row(connection, key_of(row, width), _LONGEST)
            # Deleted or emptied meanwhile: what was read first decides.
            if again is not None and again[width] is not None:
                return stored_bytes(again[width])
        return raw
