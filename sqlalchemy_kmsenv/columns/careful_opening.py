"""From a packed cell to its value with every check, and every refusal counted and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.aead import AuthenticationError, ValueCipher
from sqlalchemy_kmsenv.cell import PART_END, Cell, associated_prefix
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.envelope import MAGIC, Header, InlineReference, parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyServiceError,
    KmsEnvError,
    RevokedKeyError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CommitmentError, ContextPairs, Keyring, RefusalKind
from sqlalchemy_kmsenv.keyring.data_keys import OpeningKey
from sqlalchemy_kmsenv.keyring.revocations import UnreadListError
from sqlalchemy_kmsenv.keyring.stats import Counts

_UNDECODABLE = object()


class Way(NamedTuple):
    """How the envelopes with one header and one context are opened while the key is usable."""

    header: bytes
    size: int
    key: OpeningKey
    clock: Callable[[], float]
    prefix: bytes
    decode: Callable[[bytes], Any]
    counts: Counts


@dataclass(frozen=True, slots=True)
class CarefulReader:
    """Opens cells of one column, and says what is the matter with those that do not open."""

    binding: Binding
    dialect: Dialect

    def as_bytes(self, packed: object) -> bytes:
        """What a driver gave as another type of bytes.

        Raises:
            EnvelopeError: it is text or a number, of a database that stores any type anywhere.
        """
        if isinstance(packed, (bytes, bytearray, memoryview)):
            return bytes(packed)
        error = EnvelopeError(
            f"{self._column}: not an envelope, but a {type(packed).__name__}. Was the column"
            " written without this library?"
        )
        raise self._refusal(error, RefusalKind.NO_ENVELOPE)

    def open(self, packed: bytes) -> tuple[Way, int, Any]:
        """The value of a cell, the index of its envelope, and the way to the next one like it.

        Raises:
            UnboundValueError: the cell was read without the row that it stands in.
            EnvelopeError: it holds no envelope, or a value of another type.
            WrongCellError: altered, or moved from another cell.
            KeyServiceError: the data key could not be unwrapped.
            ConfigurationError: no keyring is attached, or it lacks the KMS key.
            AuditError: the keyring's audit hook failed.
        """
        keyring = keyring_of(self.binding)
        section = self._section(packed)
        header = self._header(packed, section)
        pairs = self._pairs(section, header)
        decode = self._decoder(section, header, pairs)
        key, cipher = self._key(keyring, section, header, pairs)
        # Behind the key: its audit record comes first, and what does not unwrap opens nothing.
        clock = keyring.clock_for_opening(pairs, header.reference)
        at = len(section)
        binding = self.binding
        prefix = associated_prefix(
            binding.table_name, binding.column_name, len(binding.identity), len(binding.scope),
            header.value_type,
        )  # fmt: skip
        # The value stays out of the locals of this frame, which a traceback would show.
        try:
            value = _decoded(decode, cipher.open(packed, at + header.size, prefix + section))
        except AuthenticationError:
            raise self._foreign(section, header, pairs) from None
        if value is _UNDECODABLE:
            raise self._undecodable(section, header, pairs)
        keyring.counts.opened += 1
        own = packed[at : at + header.size]
        return Way(own, header.size, key, clock, prefix, decode, keyring.counts), at, value

    def _section(self, packed: bytes) -> bytes:
        """The parts of the row, which the database put before the envelope."""
        wanted = len(self.binding.bound_columns)
        at = packed.find(MAGIC)
        if at == 0 and wanted:
            raise UnboundValueError(
                f"{self._column} was read through text(), or another statement that does not say"
                " which row it is in; select the column itself"
            )
        # The parts hold no colon and no byte above 0x7F: what comes before the envelope
        # is theirs alone, and an envelope begins right behind the last of them.
        section = packed[: max(at, 0)]
        if at >= 0 and section.count(PART_END) == wanted and section[-1:] in (b"", PART_END):
            return section
        parts = packed.split(PART_END, wanted)
        if len(parts) <= wanted:
            error = EnvelopeError(
                f"{self._column}: the cell is not NULL, but came without the parts of its row. The"
                " value is empty, or longer than the database returns, or a column that it is"
                " bound to holds NULL or what is not of its type; mend the row"
            )
            raise self._refusal(error, RefusalKind.NO_ENVELOPE)
        return b"".join(part + PART_END for part in parts[:wanted])

    def _header(self, packed: bytes, section: bytes) -> Header:
        try:
            return parse_header(packed, len(section))
        except EnvelopeError as error:
            cell = self.binding.cell(section)
            named = EnvelopeError(f"{cell}: {error}")
            raise self._refusal(named, RefusalKind.NO_ENVELOPE, section) from None

    def _pairs(self, section: bytes, header: Header) -> ContextPairs:
        try:
            return self.binding.pairs(section)
        except ValueError:
            # Parts that this library never writes: nothing was sealed for such a row.
            raise self._foreign(section, header, None) from None

    def _decoder(
        self, section: bytes, header: Header, pairs: ContextPairs
    ) -> Callable[[bytes], Any]:
        try:
            return self.binding.values.decoder(header.value_type, self.dialect)
        except EnvelopeError as error:
            named = EnvelopeError(f"{self.binding.cell(section)}: {error}")
            kind = RefusalKind.OTHER_TYPE
            raise self._refusal(named, kind, section, header.reference, pairs) from None

    def _key(
        self, keyring: Keyring, section: bytes, header: Header, pairs: ContextPairs
    ) -> tuple[OpeningKey, ValueCipher]:
        cell, reference = self.binding.cell(section), header.reference
        try:
            while True:
                key = keyring.opening_key(pairs, reference)
                cipher = key.cipher
                # None where another thread dropped it since: it is unwrapped again.
                if cipher is not None:
                    return key, cipher
        except RevokedKeyError as error:
            revoked = RevokedKeyError(f"{cell}: {error}", cell=cell)
            kind = RefusalKind.REVOKED_KEY
            raise self._refusal(revoked, kind, section, reference, pairs) from error
        except WrongCellError as error:
            damaged = isinstance(error, CommitmentError)
            kind = RefusalKind.DAMAGED_KEY if damaged else RefusalKind.OTHER_KEY_CONTEXT
            foreign = WrongCellError(
                f"{cell}: {error}. Where all values of the column fail, its table or column was"
                " renamed, or its scope or Keyring(context=...) changed: pin name=..., or run"
                " kmsenv reencrypt",
                cell=cell,
                request_id=error.request_id,
            )
            raise self._refusal(foreign, kind, section, reference, pairs) from error
        except UnreadListError:
            # Not this value's matter: neither counted nor marked.
            raise
        except ConfigurationError as error:
            unlisted = ConfigurationError(f"{cell}: {error}")
            kind = RefusalKind.OTHER_KMS_KEY
            raise self._refusal(unlisted, kind, section, reference, pairs) from error
        except KeyServiceError as error:
            raise _at(cell, error) from error

    def _foreign(self, section: bytes, header: Header, pairs: ContextPairs | None) -> KmsEnvError:
        cell = self.binding.cell(section)
        error = WrongCellError(
            f"{cell}: the stored value does not authenticate here. It was altered, or copied from"
            " another row or column; restore it from where it belongs",
            cell=cell,
        )
        kind = RefusalKind.OTHER_ROW_OR_DAMAGED
        return self._refusal(error, kind, section, header.reference, pairs)

    def _undecodable(self, section: bytes, header: Header, pairs: ContextPairs) -> KmsEnvError:
        why = self.binding.values.what_does_not_fit(header.value_type, self.dialect)
        error = EnvelopeError(f"{self.binding.cell(section)}: the value opened, but {why}")
        return self._refusal(error, RefusalKind.OTHER_TYPE, section, header.reference, pairs)

    def _refusal(
        self,
        error: KmsEnvError,
        kind: RefusalKind,
        section: bytes = b"",
        reference: InlineReference | None = None,
        pairs: ContextPairs | None = None,
    ) -> KmsEnvError:
        """Count and tell of a stored value that does not open; the error to raise."""
        error.cell = self.binding.cell(section)
        told = self.binding.column_pairs if pairs is None else pairs
        keyring_of(self.binding).refused(told, reference, error, kind)
        return error

    @property
    def _column(self) -> str:
        column = self.binding.column
        return f"{column.table.name}.{column.name}"


def _decoded(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    try:
        return decode(payload)
    except Exception:  # noqa: BLE001  what it holds may be the value
        return _UNDECODABLE


def _at(cell: Cell, error: KeyServiceError) -> KeyServiceError:
    """The same error, of whatever class a ``Kms`` has of its own, with the cell in front."""
    # Not by its constructor, whose arguments nobody knows; a copy, since threads that wait for
    # one call are all given the same exception.
    named: KeyServiceError = type(error).__new__(type(error), f"{cell}: {error}")
    named.__dict__.update(error.__dict__)
    named.cell = cell
    return named
