"""Why a stored value does not open: which part of its binding differs."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.aead import AuthenticationError
from sqlalchemy_kmsenv.by_hand.places import PLAIN_DIALECT, NamedRow, binding_of, sections_of
from sqlalchemy_kmsenv.cell import Cell, associated_prefix
from sqlalchemy_kmsenv.columns import UnboundValueError
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.columns.variants import DIALECTS
from sqlalchemy_kmsenv.envelope import Header, parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyServiceError,
    RevokedKeyError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CommitmentError
from sqlalchemy_kmsenv.keyring.data_keys import OpeningKey
from sqlalchemy_kmsenv.keyring.revocations import UnreadListError
from sqlalchemy_kmsenv.printable import printable


class Finding(enum.StrEnum):
    """What is the matter with a stored value, as far as can be known."""

    OPENS = "opens"
    NULL = "NULL"
    NO_ENVELOPE = "no envelope"
    OTHER_KMS_KEY = "other KMS key"
    KEY_SERVICE = "key service"
    OTHER_CELL = "other cell"
    """It opens in another cell that was tried, which ``home`` names."""
    OTHER_KEY_CONTEXT = "other key context"
    """Its data key belongs to another column or scope, or the wrapped key is damaged."""
    OTHER_ROW_OR_DAMAGED = "other row or damaged"
    """The data key is right: the value is another row's, or its bytes were altered."""
    DAMAGED_KEY = "damaged key reference"
    """The header names one data key, and carries another."""
    REVOKED_KEY = "revoked data key"
    """It was sealed under a data key that may have leaked, so that anybody may have made it."""
    OTHER_TYPE = "other type"
    """It opens, but is no value of the column's type."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found about one stored value; holds no value, and prints none."""

    cell: Cell
    """Where the value was found."""
    finding: Finding
    sentences: tuple[str, ...]
    """What was looked at, in order, and what to do."""
    home: Cell | None = None
    """Where it opens instead."""

    def __str__(self) -> str:
        return "\n".join((f"{self.cell}: {self.finding}", *(f"- {s}" for s in self.sentences)))


def explain(
    column: Any, stored: bytes | None, row: NamedRow, *, others: Iterable[NamedRow] = ()
) -> Explanation:
    """Say why ``stored``, found in ``column`` of ``row``, does not open there.

    ``row`` holds its identity and scope columns by key. The other encrypted
    columns of the MetaData are tried with the same row, and this column with
    each of ``others``: rows that the value may have been copied from. What is
    tried needs the same rights as reading does, and costs up to one KMS call for
    each encryption context.

    Raises:
        UnboundValueError: ``row`` lacks what the value is bound to.
        ConfigurationError: no encrypted column, no keyring is attached, or its list of
            revoked data keys cannot be read.
    """
    binding = binding_of(column)
    (section,) = sections_of(binding, [row])
    here = _Place(binding, section)
    if stored is None:
        return Explanation(here.cell, Finding.NULL, ("The cell is NULL.",))
    given: object = stored
    if not isinstance(given, (bytes, bytearray, memoryview)):
        why = f"The cell holds no bytes, but a {type(given).__name__}: others have written it."
        return Explanation(here.cell, Finding.NO_ENVELOPE, (why,))
    try:
        header = parse_header(bytes(stored))
    except EnvelopeError as error:
        return Explanation(here.cell, Finding.NO_ENVELOPE, (f"{error}.",))
    elsewhere = list(_elsewhere(binding, row, list(others)))
    return _Search(here, bytes(stored), header, elsewhere).explanation()


@dataclass(frozen=True, slots=True)
class _Place:
    """A cell that a value might belong to."""

    binding: Binding
    section: bytes

    @property
    def cell(self) -> Cell:
        return self.binding.cell(self.section)

    @property
    def named(self) -> str:
        """The cell with its scope, for people."""
        pairs = dict(self.binding.pairs(self.section))
        scope = ", ".join(
            f"{bound.column.name} {printable(pairs[bound.column.name])}"
            for bound in self.binding.scope
        )
        return f"{self.cell}, {scope}" if scope else str(self.cell)


class _Search:
    """The steps from the bytes to the value, up to the one that fails."""

    def __init__(
        self, here: _Place, stored: bytes, header: Header, elsewhere: Sequence[_Place]
    ) -> None:
        self._here = here
        self._stored = stored
        self._header = header
        self._elsewhere = elsewhere
        reference = header.reference
        key, material = reference.fingerprint.hex(), reference.material_hint.hex()
        self._sentences = [
            f"An envelope of {len(stored)} bytes: KMS key {key}, key material {material}.",
        ]

    def explanation(self) -> Explanation:
        try:
            key = self._key(self._here)
        except RevokedKeyError as error:
            return self._found(Finding.REVOKED_KEY, f"{error}.")
        except CommitmentError:
            return self._found(
                Finding.DAMAGED_KEY,
                "The KMS unwraps the data key, but the envelope was not sealed with it: header and"
                " value come from two envelopes, or the header was altered.",
            )
        except WrongCellError:
            return self._of_another_context()
        except ConfigurationError as error:
            if isinstance(error, UnreadListError):
                raise
            return self._found(Finding.OTHER_KMS_KEY, f"{error}.")
        except KeyServiceError as error:
            return self._found(
                Finding.KEY_SERVICE, f"The KMS did not unwrap the data key: {error}."
            )
        self._sentences.append("The KMS unwraps the data key under this column's context.")
        return self._with_key(key)

    def _with_key(self, key: OpeningKey) -> Explanation:
        payload = self._payload(self._here, key)
        if payload is not None:
            return self._opened(payload)
        home = self._home()
        if home is not None:
            return home
        return self._found(
            Finding.OTHER_ROW_OR_DAMAGED,
            "The value does not authenticate in this row: it is another row's, or its bytes were"
            " altered; from the bytes alone nobody can tell which. Give the rows that it may come"
            " from as others=[...], or restore it from a backup.",
        )

    def _opened(self, payload: bytes) -> Explanation:
        # A type may be another one on each database, and nobody said which this value is from.
        if not any(self._decodes(payload, dialect) for dialect in (PLAIN_DIALECT, *DIALECTS)):
            return self._found(
                Finding.OTHER_TYPE,
                "The value opens, but does not decode to what the column holds. Did the column's"
                " type, or the members of its Enum, change?",
            )
        return self._found(Finding.OPENS, "The value opens in this row.")

    def _decodes(self, payload: bytes, dialect: Dialect) -> bool:
        try:
            self._here.binding.values.decoder(self._header.value_type, dialect)(payload)
        except Exception:  # noqa: BLE001  a codec or a user's type may raise anything
            return False
        return True

    def _of_another_context(self) -> Explanation:
        home = self._home()
        if home is not None:
            return home
        for place in self._elsewhere:
            if self._key_or_none(place) is not None:
                names = place.binding
                return self._found(
                    Finding.OTHER_KEY_CONTEXT,
                    f"Its data key is one of {names.table_name}.{names.column_name}"
                    f"{' in the scope of ' + place.named if names.scope else ''}, the row of which"
                    " is not among those that were tried.",
                )
        return self._found(
            Finding.OTHER_KEY_CONTEXT,
            "The KMS does not unwrap its data key under this column's encryption context, nor"
            " under any other that was tried: it belongs to another table, column, scope or"
            " Keyring(context=...), or the wrapped key was altered; the KMS does not tell which.",
        )

    def _home(self) -> Explanation | None:
        for place in self._elsewhere:
            key = self._key_or_none(place)
            if key is not None and self._payload(place, key) is not None:
                self._sentences.append(
                    f"It belongs to {place.named}, where it opens: somebody copied it."
                )
                cell = self._here.cell
                return Explanation(cell, Finding.OTHER_CELL, tuple(self._sentences), place.cell)
        return None

    def _key(self, place: _Place) -> OpeningKey:
        pairs = place.binding.pairs(place.section)
        return keyring_of(place.binding).opening_key(pairs, self._header.reference)

    def _key_or_none(self, place: _Place) -> OpeningKey | None:
        try:
            return self._key(place)
        except (WrongCellError, ConfigurationError, KeyServiceError):
            return None

    def _payload(self, place: _Place, key: OpeningKey) -> bytes | None:
        binding = place.binding
        prefix = associated_prefix(
            binding.table_name,
            binding.column_name,
            len(binding.identity),
            len(binding.scope),
            self._header.value_type,
        )
        if key.cipher is None:
            return None
        try:
            return key.cipher.open(self._stored, self._header.size, prefix + place.section)
        except AuthenticationError:
            return None

    def _found(self, finding: Finding, sentence: str) -> Explanation:
        return Explanation(self._here.cell, finding, (*self._sentences, sentence))


def _elsewhere(binding: Binding, row: NamedRow, others: list[NamedRow]) -> Iterator[_Place]:
    """This column in the other rows; every other column in all rows that name one of its own."""
    metadata: MetaData = binding.column.table.metadata
    yield from _places(binding, others)
    for table in metadata.tables.values():
        for other in encrypted_columns(table).values():
            if other is not binding:
                yield from _places(other, [row, *others])


def _places(binding: Binding, rows: Iterable[NamedRow]) -> Iterator[_Place]:
    for row in rows:
        try:
            (section,) = sections_of(binding, [row])
        except UnboundValueError:
            continue
        yield _Place(binding, section)
