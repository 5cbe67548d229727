"""Packed cells from a result to values: the hot path of every SELECT.

The short ways below open what is like the cell before it. They only ever succeed: what
does not open there goes through ``CarefulReader``, so that a refusal is the same, and
counted the same, whatever was read before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.aead import LARGE_VALUE_BYTES, NONCE_BYTES
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.careful_opening import CarefulReader, Way
from sqlalchemy_kmsenv.columns.marking import with_marking
from sqlalchemy_kmsenv.envelope import MAGIC
from sqlalchemy_kmsenv.keyring.data_keys import OpeningKey
from sqlalchemy_kmsenv.keyring.stats import Counts

_MAX_REMEMBERED = 256

_NO_KEY = OpeningKey(None, deadline=float("-inf"), clock=lambda: 0.0)
_NO_WAY = Way(b"", 0, _NO_KEY, lambda: 0.0, b"", bytes, Counts())
"""Out of date from the beginning."""


def cell_opener(binding: Binding, dialect: Dialect) -> Callable[[Any], Any]:
    """A result processor: from the packed cell of a row to the value of its column.

    What it returns raises what ``CarefulReader.open`` does.
    """
    reader = CarefulReader(binding, dialect)
    if binding.shares_data_keys:
        return with_marking(_opener_of_shared_keys(reader))
    return with_marking(_opener_of_scoped_keys(reader))


def _opener_of_shared_keys(reader: CarefulReader) -> Callable[[Any], Any]:
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
            packed = reader.as_bytes(packed)
        header, size, key, clock, prefix, decode, counts = way
        at = guess
        known = packed.startswith(header, at)
        if not known:
            at = guess = packed.find(MAGIC)
            known = packed.startswith(header, at)
        cipher = key.cipher
        if known and cipher is not None and clock() < key.deadline:
            nonce_at = at + size
            sealed_at = nonce_at + NONCE_BYTES
            sealed = (
                packed[sealed_at:]
                if len(packed) < LARGE_VALUE_BYTES
                else memoryview(packed)[sealed_at:]
            )
            try:
                value = decode(
                    cipher.decrypt(packed[nonce_at:sealed_at], sealed, prefix + packed[:at])
                )
            except Exception:  # noqa: BLE001, S110  the careful way finds out what it is
                pass
            else:
                counts.opened += 1
                return value
        way, guess, value = reader.open(packed)
        return value

    return open_cell


def _opener_of_scoped_keys(reader: CarefulReader) -> Callable[[Any], Any]:
    ways: dict[bytes, Way] = {}
    pairs_key = reader.binding.pairs_key
    size = 0

    def open_cell(packed: Any) -> Any:
        nonlocal size
        if packed is None:
            return None
        if type(packed) is not bytes:
            packed = reader.as_bytes(packed)
        at = packed.find(MAGIC)
        # A header tells its own length: bytes that equal a parsed one are that header.
        start = max(at - len(pairs_key(packed[:at])), 0)
        way = ways.get(packed[start : at + size])
        cipher = None if way is None else way.key.cipher
        if way is not None and cipher is not None and way.clock() < way.key.deadline:
            try:
                value = way.decode(cipher.open(packed, at + way.size, way.prefix + packed[:at]))
            except Exception:  # noqa: BLE001, S110  the careful way finds out what it is
                pass
            else:
                way.counts.opened += 1
                return value
        way, at, value = reader.open(packed)
        size = way.size
        if len(ways) >= _MAX_REMEMBERED:
            ways.clear()
        ways[packed[at - len(pairs_key(packed[:at])) : at + size]] = way
        return value

    return open_cell
