"""``verify``: every value opens where it stands, and decodes."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import Engine, Row

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.rewrap.decoding import Decoding
from sqlalchemy_kmsenv.rewrap.opening import PayloadOpener, UnopenedError
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows, stored_bytes
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import Writer


class Verifying:
    """Opens values and drops them."""

    writer: Writer | None = None
    whole_values = True
    notes: AbstractSet[str] = frozenset()

    def __init__(self, engine: Engine, table: RawTable, binding: Binding, keyring: Keyring) -> None:
        self.table = table
        self._engine = engine
        self._binding = binding
        self._decoding = Decoding(binding, engine.dialect)
        self._opener = PayloadOpener(binding, keyring)

    def examine(self, rows: Rows) -> Outcome:
        """Open the values of rows that were just read."""
        outcome = Outcome()
        width = len(self.table.key)
        for found in rows:
            row = whole_row(self._engine, self.table, found)
            if row is None or row[width] is None:
                outcome.null += 1
                continue
            section, stored = stored_bytes(row[width + 2]), stored_bytes(row[width])
            try:
                self._decoding.check(self._opener.open(section, stored))
            except UnopenedError as unopened:
                self._opener.tell_refusal(section, stored, unopened)
                outcome.fail(key_of(row, width), unopened.error, unopened.finding)
                continue
            outcome.opened += 1
        return outcome


def whole_row(engine: Engine, table: RawTable, row: Row[Any]) -> Row[Any] | None:
    """The row with its whole value: itself, or read again if the value is a large one."""
    width = len(table.key)
    size = row[width + 1]
    if size is None or size <= table.prefix_bytes:
        return row
    with engine.connect() as connection:
        return table.row(connection, key_of(row, width))
