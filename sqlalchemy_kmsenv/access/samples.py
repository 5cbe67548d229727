"""A bounded look at the stored values of a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, LargeBinary, column, func, select, table, type_coerce

from sqlalchemy_kmsenv.access.contexts import ColumnContext
from sqlalchemy_kmsenv.by_hand.places import sections_of
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.built_in import BuiltIn
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, parse_header
from sqlalchemy_kmsenv.errors import EnvelopeError, KmsEnvError

LOOKED_AT = 100
_LONGEST_HEADER = 6300
"""More than any header with its nonce and tag: what follows is of no interest here."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A wrapped data key that the column has, and its whole encryption context."""

    reference: InlineReference
    context: Mapping[str, str]

    def fits(self, limits: ColumnContext, key_arn: str) -> bool:
        """Whether that key wrapped it, for a scope that the question is about."""
        within = all(self.context.get(name) in values for name, values in limits.limited)
        return within and key_fingerprint(key_arn) == self.reference.fingerprint


@dataclass(frozen=True, slots=True)
class Look:
    """What the first values of a column are."""

    values: int
    not_envelopes: int
    sample: Sample | None


def look(connection: Connection, binding: Binding) -> Look:
    """The first values that the database finds, 100 at most; nothing is opened."""
    not_envelopes = 0
    sample: Sample | None = None
    rows = connection.execute(_query(binding)).all()
    for row in rows:
        try:
            header = parse_header(_as_bytes(row[0]))
        except EnvelopeError:
            not_envelopes += 1
            continue
        sample = sample or _sample(binding, row, header.reference)
    return Look(len(rows), not_envelopes, sample)


def _query(binding: Binding) -> Any:
    # Bare names instead of the model's columns: neither packing nor refusals.
    own = binding.column.table
    stored: Any = column(binding.column.name)
    named = [column(bound.column.name, bound.column.type) for bound in binding.bound_columns]
    source = table(own.name, stored, *dict.fromkeys(named), schema=own.schema)
    start = type_coerce(BuiltIn(func.substr(stored, 1, _LONGEST_HEADER)), LargeBinary)
    return select(start, *named).select_from(source).where(stored.is_not(None)).limit(LOOKED_AT)


def _sample(binding: Binding, row: Any, reference: InlineReference) -> Sample | None:
    keys = [bound.column.key for bound in binding.bound_columns]
    try:
        (section,) = sections_of(binding, [dict(zip(keys, row[1:], strict=True))])
        context = keyring_of(binding).context_of(binding.pairs(section))
    except (KmsEnvError, ValueError):
        # The model does not fit the table: other lines say so.
        return None
    return Sample(reference, context)


def _as_bytes(stored: Any) -> bytes:
    return stored.encode() if isinstance(stored, str) else bytes(stored)
