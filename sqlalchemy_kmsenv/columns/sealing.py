"""Lists of values to lists of envelopes: what every write comes down to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.cell import associated_prefix
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.inner import Encoded
from sqlalchemy_kmsenv.columns.refused import Refused, refused_as_value
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.keyring import Keyring

Stored = bytes | bytearray


@dataclass(frozen=True, slots=True)
class EncodedValues:
    """Values of one column, one a row, checked and encoded; what is missing is their rows."""

    binding: Binding
    count: int
    present: Sequence[int] | None
    """The places of the values that are not None; None where all are."""
    encoded: Encoded

    def seal(self, sections: Sequence[bytes]) -> list[Sealed | None]:
        """One envelope a value for the row whose section stands at the same place; None stays None.

        One look-up of the data key and one draw of nonces for all that share them.

        Raises:
            KeyServiceError: no data key could be had.
        """
        present = self.present
        if present is None:
            return list(map(Sealed, _seal_all(self.binding, self.encoded, sections)))
        result: list[Sealed | None] = [None] * self.count
        if present:
            stored = _seal_all(self.binding, self.encoded, [sections[index] for index in present])
            for index, envelope in zip(present, stored, strict=True):
                result[index] = Sealed(envelope)
        return result

    def only(self, places: Sequence[int]) -> EncodedValues:
        """The values at these places, in this order."""
        by_place = {place: i for i, place in enumerate(self._present())}
        kept = [by_place[place] for place in places if place in by_place]
        types = self.encoded.value_types
        encoded = replace(
            self.encoded,
            payloads=[self.encoded.payloads[i] for i in kept],
            value_types=None if types is None else [types[i] for i in kept],
        )
        present = [new for new, place in enumerate(places) if place in by_place]
        return EncodedValues(self.binding, len(places), present, encoded)

    def _present(self) -> Sequence[int]:
        return range(self.count) if self.present is None else self.present


def encode_values(binding: Binding, values: Sequence[Any], dialect: Dialect) -> EncodedValues:
    """Check and encode values of one column.

    Raises:
        InvalidValueError: a value is not one that the column holds.
    """
    present: Sequence[int] | None = None
    given = values
    kinds = set(map(type, values))
    if Refused in kinds:
        column = binding.column
        raise refused_as_value(f"{column.table.name}.{column.name}")
    if type(None) in kinds:
        present = [index for index, value in enumerate(values) if value is not None]
        given = [values[index] for index in present]
    encoded = binding.values.encode_many(given, dialect)
    return EncodedValues(binding, len(values), present, encoded)


def seal_values(
    binding: Binding, values: Sequence[Any], sections: Sequence[bytes], dialect: Dialect
) -> list[Sealed | None]:
    """Encode and seal at once.

    Raises:
        InvalidValueError: a value is not one that the column holds.
        KeyServiceError: no data key could be had; nothing was sealed.
    """
    return encode_values(binding, values, dialect).seal(sections)


def _seal_all(binding: Binding, encoded: Encoded, sections: Sequence[bytes]) -> list[Stored]:
    keyring = keyring_of(binding)
    if encoded.value_type is not None and binding.shares_data_keys:
        return _seal_group(binding, keyring, encoded.value_type, sections, encoded.payloads)
    stored: list[Stored] = [b""] * len(sections)
    for value_type, indexes in _groups(binding, encoded, sections):
        group = _seal_group(
            binding,
            keyring,
            value_type,
            [sections[index] for index in indexes],
            [encoded.payloads[index] for index in indexes],
        )
        for index, envelope in zip(indexes, group, strict=True):
            stored[index] = envelope
    return stored


def _groups(
    binding: Binding, encoded: Encoded, sections: Sequence[bytes]
) -> list[tuple[int, list[int]]]:
    groups: dict[tuple[int, bytes], list[int]] = {}
    keys = map(binding.pairs_key, sections)
    types = encoded.value_types or [encoded.value_type or 0] * len(sections)
    for index, key in enumerate(zip(types, keys, strict=True)):
        groups.setdefault(key, []).append(index)
    return [(value_type, indexes) for (value_type, _), indexes in groups.items()]


def _seal_group(
    binding: Binding,
    keyring: Keyring,
    value_type: int,
    sections: Sequence[bytes],
    payloads: Sequence[bytes],
) -> list[Stored]:
    prefix = associated_prefix(
        binding.table_name,
        binding.column_name,
        len(binding.identity),
        len(binding.scope),
        value_type,
    )
    return keyring.seal_many(binding.pairs(sections[0]), value_type, prefix, sections, payloads)
