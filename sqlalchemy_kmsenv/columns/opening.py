"""Packed cells from a result to values: the hot path of every SELECT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.aead import LARGE_VALUE_BYTES, NONCE_BYTES, AuthenticationError
from sqlalchemy_kmsenv.cell import PART_END, associated_prefix
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.envelope import MAGIC, InlineReference, parse_header
from sqlalchemy_kmsenv.errors import ConfigurationError, EnvelopeError, WrongCellError
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.keyring.data_keys import OpeningKey
from sqlalchemy_kmsenv.keyring.stats import Counts

_MAX_REMEMBERED = 256


class _Way(NamedTuple):
    """How the envelopes with one header and one context are opened while the key is usable."""

    header: bytes
    size: int
    key: OpeningKey
    clock: Callable[[], float]
    prefix: bytes
    decode: Callable[[bytes], Any]
    counts: Counts


_NO_KEY = OpeningKey(None, deadline=float("-inf"), clock=lambda: 0.0)
_NO_WAY = _Way(b"", 0, _NO_KEY, lambda: 0.0, b"", bytes, Counts())
"""Out of date from the beginning."""


def cell_opener(binding: Binding, dialect: Dialect) -> Callable[[Any], Any]:
    """A result processor: from the packed cell of a row to the value of its column.

    What it returns raises:
        EnvelopeError: the cell holds no envelope.
        WrongCellError: altered, or moved from another cell.
        KeyServiceError: the data key could not be unwrapped.
        ConfigurationError: no keyring is attached, or it lacks the KMS key.
        UnboundValueError: the cell was read without the row that it stands in.
        AuditError: the keyring's audit hook failed.
    """
    reader = _Reader(binding, dialect)
    if binding.shares_data_keys:
        return _opener_of_shared_keys(reader)
    return _opener_of_scoped_keys(reader)


def _opener_of_shared_keys(reader: _Reader) -> Callable[[Any], Any]:
    # Almost all rows of a result share a data key and the length of their parts, so the last
    # way and the last place are tried first; a wrong guess costs a comparison and opens
    # nothing, since what stands before the envelope is authenticated with it. The arithmetic
    # of ValueCipher.open stands here once more: a call costs a tenth of a row.
    way = _NO_WAY
    guess = 0

    def open_cell(packed: Any) -> Any:
        nonlocal way, guess
        if packed is None:
            return None
        if type(packed) is not bytes:
            packed = bytes(packed)
        header, size, key, clock, prefix, decode, counts = way
        at = guess
        known = packed.startswith(header, at)
        if not known:
            at = guess = packed.find(MAGIC)
            known = packed.startswith(header, at)
        if not known or clock() >= key.deadline:
            at = packed.find(MAGIC)
            found = way = reader.way(packed, at)
            _, size, key, _, prefix, decode, counts = found
        cipher = key.cipher
        if cipher is None:
            return open_cell(packed)
        nonce_at = at + size
        sealed_at = nonce_at + NONCE_BYTES
        sealed = (
            packed[sealed_at:]
            if len(packed) < LARGE_VALUE_BYTES
            else memoryview(packed)[sealed_at:]
        )
        try:
            payload = cipher.decrypt(packed[nonce_at:sealed_at], sealed, prefix + packed[:at])
        except AuthenticationError:
            raise reader.foreign(packed, packed.find(MAGIC)) from None
        counts.opened += 1
        try:
            return decode(payload)
        except Exception:  # noqa: BLE001, S110  what it holds may be the value
            pass
        raise reader.undecodable(packed, at)

    return open_cell


def _opener_of_scoped_keys(reader: _Reader) -> Callable[[Any], Any]:
    ways: dict[bytes, _Way] = {}
    pairs_key = reader.binding.pairs_key
    size = 0

    def open_cell(packed: Any) -> Any:
        nonlocal size
        if packed is None:
            return None
        if type(packed) is not bytes:
            packed = bytes(packed)
        at = packed.find(MAGIC)
        # A header tells its own length: bytes that equal a parsed one are that header.
        start = max(at - len(pairs_key(packed[:at])), 0)
        way = ways.get(packed[start : at + size])
        if way is None or way.clock() >= way.key.deadline:
            way = reader.way(packed, at)
            size = way.size
            if len(ways) >= _MAX_REMEMBERED:
                ways.clear()
            ways[packed[start : at + size]] = way
        cipher = way.key.cipher
        if cipher is None:
            return open_cell(packed)
        try:
            payload = cipher.open(packed, at + way.size, way.prefix + packed[:at])
        except AuthenticationError:
            raise reader.foreign(packed, at) from None
        way.counts.opened += 1
        try:
            return way.decode(payload)
        except Exception:  # noqa: BLE001, S110  what it holds may be the value
            pass
        raise reader.undecodable(packed, at)

    return open_cell


@dataclass(frozen=True, slots=True)
class _Reader:
    """What the openers of one column share: the slow way to a key, and the refusals."""

    binding: Binding
    dialect: Dialect

    def way(self, packed: bytes, at: int) -> _Way:
        """Parse the header at index ``at`` and get its data key."""
        binding = self.binding
        if at == 0 and binding.bound_columns:
            column = binding.column
            raise UnboundValueError(
                f"{column.table.name}.{column.name} was read through text(), or another statement"
                " that does not say which row it is in; select the column itself"
            )
        section = self._section(packed, at)
        cell = binding.cell(section)
        try:
            header = parse_header(packed, len(section))
            decode = binding.values.decoder(header.value_type, self.dialect)
        except EnvelopeError as error:
            raise EnvelopeError(f"{cell}: {error}") from None
        prefix = associated_prefix(
            cell.table, cell.column, len(cell.row), len(cell.scope), header.value_type
        )
        keyring = keyring_of(binding)
        key = self._key(keyring, section, header.reference)
        # Behind the key: its audit record comes first, and what does not unwrap opens nothing.
        clock = keyring.clock_for_opening(binding.pairs(section), header.reference)
        own = packed[at : at + header.size]
        return _Way(own, header.size, key, clock, prefix, decode, keyring.counts)

    def foreign(self, packed: bytes, at: int) -> WrongCellError:
        """The value does not authenticate here."""
        cell = self.binding.cell(packed[:at])
        error = WrongCellError(
            f"{cell}: the stored value does not authenticate here. It was altered, or copied from"
            " another row or column; restore it from where it belongs",
            cell=cell,
        )
        self._tell(packed, at, error)
        return error

    def undecodable(self, packed: bytes, at: int) -> EnvelopeError:
        """The value opened, but is not one that the column's type knows."""
        error = EnvelopeError(
            f"{self.binding.cell(packed[:at])}: the value opened, but does not decode to what the"
            " column holds. Did the column's type, or the members of its Enum, change?"
        )
        self._tell(packed, at, error)
        return error

    def _tell(self, packed: bytes, at: int, error: Exception) -> None:
        keyring = keyring_of(self.binding)
        try:
            reference = parse_header(packed, at).reference
            keyring.refused(self.binding.pairs(packed[:at]), reference, error)
        except (EnvelopeError, ValueError):
            # Made up so that it seemed to be an envelope where those of other rows begin.
            keyring.refused(self.binding.column_pairs, None, error)

    def _section(self, packed: bytes, at: int) -> bytes:
        # The parts hold no colon and no byte above 0x7F: what comes before the envelope
        # is theirs alone, and an envelope begins right behind the last of them.
        wanted = len(self.binding.bound_columns)
        section = packed[: max(at, 0)]
        if at >= 0 and section.count(PART_END) == wanted and section[-1:] in (b"", PART_END):
            return section
        parts = packed.split(PART_END, wanted)[:wanted]
        return b"".join(part + PART_END for part in parts)

    def _key(self, keyring: Keyring, section: bytes, reference: InlineReference) -> OpeningKey:
        cell = self.binding.cell(section)
        try:
            return keyring.opening_key(self.binding.pairs(section), reference)
        except WrongCellError as error:
            raise WrongCellError(
                f"{cell}: {error}. Where all values of the column fail, its table or column was"
                " renamed, or its scope or Keyring(context=...) changed: pin name=..., or run"
                " kmsenv reencrypt",
                cell=cell,
                request_id=error.request_id,
            ) from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{cell}: {error}") from error
