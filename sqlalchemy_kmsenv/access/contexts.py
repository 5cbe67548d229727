"""The encryption contexts that the columns of a model can have."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy_kmsenv import context
from sqlalchemy_kmsenv.cell import BYTES_PART, DATE_PART, DATETIME_PART, INT_PART, UUID_PART
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.errors import ConfigurationError

ScopeValues = Mapping[str, Sequence[str]]
"""For a scope column by name, the only values that matter; a column that is absent is open."""


@dataclass(frozen=True, slots=True)
class ColumnContext:
    """What is known beforehand of the encryption contexts of one column."""

    keyring: str
    table: str
    column: str
    fixed: tuple[tuple[str, str], ...]
    """Pairs of the keyring, sorted by name."""
    limited: tuple[tuple[str, tuple[str, ...]], ...]
    """Scope columns and the values that they may have."""
    open: tuple[str, ...]
    """Names of pairs of any value."""

    @property
    def names(self) -> list[str]:
        """The names of all pairs, sorted; no context has fewer or more."""
        several = [name for name, _ in (*self.fixed, *self.limited)]
        return sorted([context.TABLE, context.COLUMN, *several, *self.open])

    def sample(self) -> dict[str, str]:
        """A context that it allows, to ask a key service about; no row need have it."""
        pairs = {context.TABLE: self.table, context.COLUMN: self.column, **dict(self.fixed)}
        pairs.update({name: values[0] for name, values in self.limited})
        pairs.update(dict.fromkeys(self.open, "kmsenv-sample"))
        return pairs


def column_contexts(
    bindings: Iterable[Binding], scope_values: ScopeValues | None = None
) -> list[ColumnContext]:
    """One a column, in the same order.

    Raises:
        ConfigurationError: no keyring is attached; a name of ``scope_values`` is no
            scope column of any of the columns, or a value is none of its type.
    """
    listed = list(bindings)
    wanted = dict(scope_values or {})
    known = {bound.column.name for binding in listed for bound in binding.scope}
    unknown = sorted(wanted.keys() - known)
    if unknown:
        names = ", ".join(sorted(known)) or "none, since no column has scope=[...]"
        raise ConfigurationError(f"{unknown[0]!r} is not a scope column; those are: {names}")
    return [_of(binding, wanted) for binding in listed]


def _of(binding: Binding, wanted: ScopeValues) -> ColumnContext:
    keyring = keyring_of(binding)
    names = [bound.column.name for bound in binding.scope]
    # Asked with the scope's names, so that a pair of the keyring that hides one is refused.
    whole = keyring.context_of(tuple(dict.fromkeys(names, "").items()))
    fixed = tuple(sorted((name, whole[name]) for name in whole.keys() - set(names)))
    limited = tuple(
        (bound.column.name, tuple(_as_text(bound, value) for value in wanted[bound.column.name]))
        for bound in binding.scope
        if bound.column.name in wanted
    )
    rest = tuple(name for name in names if name not in wanted)
    row = (context.ROW,) if binding.scope_is_row else ()
    return ColumnContext(
        binding.keyring_name, binding.table_name, binding.column_name, fixed, limited, rest + row
    )


def _as_text(bound: BoundColumn, value: str) -> str:
    """``value`` as an encryption context has it: ``007`` of an Integer is ``7``."""
    try:
        if bound.kind is INT_PART:
            return str(int(value))
        if bound.kind is UUID_PART:
            return str(uuid.UUID(value))
        if bound.kind is DATE_PART:
            return datetime.date.fromisoformat(value).isoformat()
        if bound.kind is DATETIME_PART:
            part = DATETIME_PART.encode(datetime.datetime.fromisoformat(value))
            return DATETIME_PART.context_text(part[1:-1])
        if bound.kind is BYTES_PART:
            return bytes.fromhex(value).hex()
    except ValueError as error:
        column = bound.column
        raise ConfigurationError(
            f"{value!r} is no value of the scope column {column.table.name}.{column.name}, which"
            f" holds {bound.kind.python_type.__name__}"
        ) from error
    return value
