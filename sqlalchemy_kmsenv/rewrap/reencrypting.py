"""``reencrypt``: the same value under a fresh data key, bound as the model says now."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import Engine, Row

from sqlalchemy_kmsenv.aead import NONCE_BYTES
from sqlalchemy_kmsenv.by_hand import Finding
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import KmsEnvError
from sqlalchemy_kmsenv.keyring import ContextPairs, Keyring
from sqlalchemy_kmsenv.rewrap.decoding import Convert, Decoding
from sqlalchemy_kmsenv.rewrap.opening import Opened, PayloadOpener, UnopenedError, prefix_of
from sqlalchemy_kmsenv.rewrap.rewrapping import pairs_of_row
from sqlalchemy_kmsenv.rewrap.tables import RawTable, Rows, stored_bytes
from sqlalchemy_kmsenv.rewrap.verifying import whole_row
from sqlalchemy_kmsenv.rewrap.work import Outcome, key_of
from sqlalchemy_kmsenv.rewrap.writing import NEW, OLD, CellWriter, Writer


class ReEncrypting:
    """Opens values as they were bound, and seals them as they are to be.

    The sections of a row are: the one of ``binding``, then the one of ``former``.
    """

    whole_values = True
    notes: AbstractSet[str] = frozenset()

    def __init__(
        self,
        engine: Engine,
        table: RawTable,
        binding: Binding,
        keyring: Keyring,
        *,
        former: tuple[Binding, Keyring] | None,
        data_keys: frozenset[bytes] | None,
        convert: Convert | None,
        dry_run: bool,
    ) -> None:
        self.table = table
        self.writer: Writer | None = CellWriter(table).replace
        self._engine = engine
        self._binding = binding
        self._keyring = keyring
        self._now = PayloadOpener(binding, keyring)
        self._former = None if former is None else PayloadOpener(*former)
        self._data_keys = data_keys
        self._decoding = Decoding(binding, engine.dialect)
        self._convert = convert
        self._dry_run = dry_run

    def examine(self, rows: Rows) -> Outcome:
        """Open the values of rows that were just read, and seal those anew that have to be."""
        outcome = Outcome()
        width = len(self.table.key)
        groups: dict[tuple[int, ContextPairs], list[tuple[Row[Any], Opened]]] = {}
        for found in rows:
            row = whole_row(self._engine, self.table, found)
            if row is None or row[width] is None:
                outcome.null += 1
                continue
            try:
                opened = self._open(row)
                opened = None if opened is None else self._fitting(opened)
                if opened is None:
                    outcome.current += 1
                    continue
                pairs = pairs_of_row(self._binding, row, width)
            except UnopenedError as unopened:
                self._tell_refusal(row, unopened)
                outcome.fail(key_of(row, width), unopened.error, unopened.finding)
                continue
            except KmsEnvError as error:
                outcome.fail(key_of(row, width), error)
                continue
            groups.setdefault((opened.header.value_type, pairs), []).append((row, opened))
        for (value_type, pairs), members in groups.items():
            self._seal(outcome, value_type, pairs, members)
        return outcome

    def _open(self, row: Row[Any]) -> Opened | None:
        """The value of a row; None where it is as it should be."""
        width = len(self.table.key)
        stored = stored_bytes(row[width])
        if self._former is None:
            opened = self._now.open(stored_bytes(row[width + 2]), stored)
            leaked = self._data_keys
            left = leaked is not None and opened.header.reference.commitment not in leaked
            return None if left else opened
        try:
            return self._former.open(stored_bytes(row[width + 3]), stored)
        except UnopenedError as unopened:
            try:
                self._now.open(stored_bytes(row[width + 2]), stored)
            except UnopenedError:
                # The former binding is what the caller said that these values have.
                raise unopened from None
            return None

    def _tell_refusal(self, row: Row[Any], unopened: UnopenedError) -> None:
        width = len(self.table.key)
        opener, place = (self._now, 2) if self._former is None else (self._former, 3)
        stored = stored_bytes(row[width])
        opener.tell_refusal(stored_bytes(row[width + place]), stored, unopened)

    def _fitting(self, opened: Opened) -> Opened | None:
        """What is to be sealed of a value; None where ``convert`` finds nothing to do."""
        try:
            # Sealed anew as it is, a value of another type would go unnoticed for ever.
            self._decoding.check(opened)
        except UnopenedError as misfit:
            if self._convert is None or misfit.finding is not Finding.OTHER_TYPE:
                raise
            return self._decoding.converted(opened, self._convert)
        return opened if self._convert is None else None

    def _seal(
        self,
        outcome: Outcome,
        value_type: int,
        pairs: ContextPairs,
        members: list[tuple[Row[Any], Opened]],
    ) -> None:
        width = len(self.table.key)
        if self._dry_run:
            outcome.writes += [{} for _ in members]
            return
        sections = [stored_bytes(row[width + 2]) for row, _ in members]
        payloads = [opened.payload for _, opened in members]
        prefix = prefix_of(self._binding, value_type)
        try:
            sealed = self._keyring.seal_many(pairs, value_type, prefix, sections, payloads)
        except KmsEnvError as error:
            for row, _ in members:
                outcome.fail(key_of(row, width), error)
            return
        for (row, opened), envelope in zip(members, sealed, strict=True):
            old_size = opened.header.size + NONCE_BYTES
            write = self.table.key_parameters(key_of(row, width))
            write[OLD] = stored_bytes(row[width])[:old_size]
            write[NEW] = bytes(envelope)
            outcome.writes.append(write)
