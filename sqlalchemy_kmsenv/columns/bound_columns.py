"""The columns that values are bound to: how each one's values are written as parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, types
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.cell import BYTES_PART, STR_PART, PartKind
from sqlalchemy_kmsenv.columns.key_types import kind_of, stored_types
from sqlalchemy_kmsenv.columns.key_values import stored_values
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.variants import on_database, type_and_variants
from sqlalchemy_kmsenv.errors import ConfigurationError


class IncompleteTableError(ConfigurationError):
    """A table lacks its primary key, or a column that an encrypted one names.

    Alembic adds the constraints of a new table after its columns, and builds a
    table of one column to add that, so that this says nothing of the model yet.
    """


class UntypedKeyError(IncompleteTableError):
    """A column takes its type from a foreign key to a table that is not defined yet.

    SQLAlchemy gives it the type when that table is defined, in whatever order models come.
    """


@dataclass(frozen=True, slots=True)
class BoundColumn:
    """A column whose value is part of a row identity or of a scope."""

    column: Column[Any]
    kind: PartKind
    max_length: int | None = None
    """Characters or bytes; what is longer could be cut by a database that is not strict."""
    drops_trailing_blanks: bool = False
    exact_length: int | None = None
    """Bytes of a BINARY, which pads with zeros what is shorter."""

    def parts(self, values: Sequence[Any], dialect: Dialect) -> list[bytes]:
        """One part a value.

        Raises:
            UnboundValueError: a value is None, or not one that is stored as it is.
        """
        stored = self._unpadded(self.stored_values(values, dialect), dialect)
        try:
            parts = self.kind.encode_many(stored)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UnboundValueError(self._refusal(f"cannot name a row: {error}")) from None
        self._check_lengths(stored, dialect.name)
        if self.drops_trailing_blanks and any(value.endswith(" ") for value in stored):
            raise UnboundValueError(
                self._refusal("is CHAR, which drops the blanks a text ends with; give it without")
            )
        return parts

    def _unpadded(self, stored: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
        """PostgreSQL returns a CHAR filled up with blanks, which no two of its rows differ by.

        Only a text of exactly its length is taken for one that came from there.
        """
        if not self.drops_trailing_blanks or dialect.name != "postgresql":
            return stored
        kind = on_database(self.column.type, dialect).type
        if not isinstance(kind, (types.CHAR, types.NCHAR)):
            return stored
        full = kind.length or 1
        return [
            value.rstrip(" ") if isinstance(value, str) and len(value) == full else value
            for value in stored
        ]

    def stored_values(self, values: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
        """What the database holds for these values.

        Raises:
            UnboundValueError: it would hold something else.
        """
        try:
            return stored_values(self.kind, self.column.type, values, dialect)
        except Exception as error:  # noqa: BLE001  a type of the application may raise anything
            raise UnboundValueError(self._refusal(f"cannot name a row: {error}")) from None

    def _check_lengths(self, stored: Sequence[Any], dialect_name: str) -> None:
        if dialect_name == "sqlite":
            return
        if self.max_length is not None and max(map(len, stored), default=0) > self.max_length:
            raise UnboundValueError(
                self._refusal(
                    f"has a length of {self.max_length}, and a longer value was given; shorten it,"
                    " or widen the column"
                )
            )
        if self.exact_length is not None and set(map(len, stored)) - {self.exact_length}:
            raise UnboundValueError(
                self._refusal(
                    f"is BINARY({self.exact_length}), which pads a shorter value; give all"
                    f" {self.exact_length} bytes"
                )
            )

    def as_given(self, values: Sequence[Any]) -> list[Any]:
        """Values that the database returned, as an application gives them: CHAR comes padded."""
        if self.drops_trailing_blanks:
            return [v.rstrip(" ") if isinstance(v, str) else v for v in values]
        return list(values)

    def _refusal(self, what: str) -> str:
        column = self.column
        return f"{column.table.name}.{column.name} {what}; an encrypted value is bound to it"


def bound_columns(
    table: Table, names: Iterable[str], where: str, role: str
) -> tuple[BoundColumn, ...]:
    """The columns of ``table`` with these keys; ``where`` and ``role`` are for messages.

    Raises:
        ConfigurationError: one that values cannot be bound to.
    """
    return tuple(_bound_column(table, name, where, role) for name in names)


def _bound_column(table: Table, name: str, where: str, role: str) -> BoundColumn:
    column = table.columns.get(name)
    if column is None:
        known = ", ".join(table.columns.keys())
        raise IncompleteTableError(
            f"{where}: {role} column {name!r} does not exist in {table.name}; it has {known}"
        )
    # SQLite calls each key nullable that does not say NOT NULL; one that is NULL names no row.
    if column.nullable and not column.primary_key:
        raise ConfigurationError(
            f"{where}: {role} column {name!r} is nullable, and a value cannot be bound to NULL;"
            " declare it with nullable=False"
        )
    if column.computed is not None:
        raise ConfigurationError(
            f"{where}: {role} column {name!r} is computed by the database, so its value is not"
            " known when a value is sealed; name a column that the application writes"
        )
    refuse_changing(column, where, role)
    return _of_kind(column, f"{where}: {role} column {name!r}", role)


def refuse_changing(column: Column[Any], where: str, role: str) -> None:
    """Refuse a column whose values change where no statement says so."""
    described = f"{where}: {role} column {column.name!r}"
    if column.onupdate is not None or column.server_onupdate is not None:
        raise ConfigurationError(
            f"{described} has onupdate, and each UPDATE would move the row away from its values;"
            " name a column that stays"
        )
    for key in column.foreign_keys:
        rule = (key.onupdate or getattr(key.constraint, "onupdate", None) or "").upper()
        if rule not in ("", "NO ACTION", "RESTRICT"):
            other = (
                "name another column as scope"
                if role == "scope"
                else "name columns that never change with identity=[...], or give up row binding"
                ' with bind="column"'
            )
            raise ConfigurationError(
                f"{described} is a foreign key ON UPDATE {rule}: the database would change it, and"
                " leave the values of the row behind. Where the key that it refers to never"
                f" changes, take onupdate out of the foreign key, in the database too; else {other}"
            )


def _of_kind(column: Column[Any], described: str, role: str) -> BoundColumn:
    if isinstance(column.type, types.NullType) and column.foreign_keys:
        raise UntypedKeyError(
            f"{described} takes its type from its foreign key, and the table that this refers to"
            " is not defined; define that table in the same MetaData, or give the column its type"
        )
    kind = kind_of(column.type)
    if kind is None:
        other = (
            "Name other columns as scope, or none"
            if role == "scope"
            else 'Name other columns with identity=[...], or give up row binding with bind="column"'
        )
        raise ConfigurationError(
            f"{described} has type {column.type!r}; values can be bound to columns of Integer,"
            " String, Enum, Uuid, LargeBinary, Date and DateTime, or a TypeDecorator over one of"
            f" them, of one kind on every database. {other}"
        )
    if kind not in (STR_PART, BYTES_PART):
        return BoundColumn(column, kind)
    variants = [*type_and_variants(column.type), *stored_types(column.type)]
    plain = [each for each in variants if not isinstance(each, types.TypeDecorator)]
    lengths = [getattr(each, "length", None) or 0 for each in plain]
    is_char = any(isinstance(each, (types.CHAR, types.NCHAR)) for each in plain)
    padded = [n for n, each in zip(lengths, plain, strict=True) if isinstance(each, types.BINARY)]
    return BoundColumn(
        column,
        kind,
        min((n for n in lengths if n), default=None),
        is_char and kind is STR_PART,
        min(padded, default=None),
    )
