"""The columns that values are bound to: how each one's values are written as parts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, types
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    INT_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.variants import has_format_of_its_own, type_and_variants
from sqlalchemy_kmsenv.errors import ConfigurationError


class IncompleteTableError(ConfigurationError):
    """A table lacks its primary key, or a column that an encrypted one names.

    Alembic adds the constraints of a new table after its columns, and builds a
    table of one column to add that, so that this says nothing of the model yet.
    """


@dataclass(frozen=True, slots=True)
class BoundColumn:
    """A column whose value is part of a row identity or of a scope."""

    column: Column[Any]
    kind: PartKind
    max_length: int | None = None
    """Characters or bytes; what is longer could be cut by a database that is not strict."""
    drops_trailing_blanks: bool = False
    text_uuid: bool = False
    """A Uuid(as_uuid=False): the application gives text, in any of its spellings."""

    def parts(self, values: Sequence[Any], dialect_name: str) -> list[bytes]:
        """One part a value.

        Raises:
            UnboundValueError: a value is None, or not one that is stored as it is.
        """
        try:
            if self.text_uuid:
                values = [value and self._uuid(value, dialect_name) for value in values]
            parts = self.kind.encode_many(values)
        except (TypeError, ValueError, AttributeError) as error:
            raise UnboundValueError(self._refusal(f"cannot name a row: {error}")) from None
        limit = None if dialect_name == "sqlite" else self.max_length
        if limit is not None and max(map(len, values), default=0) > limit:
            raise UnboundValueError(
                self._refusal(f"has a length of {limit}, and a longer value was given")
            )
        if self.drops_trailing_blanks and any(value.endswith(" ") for value in values):
            raise UnboundValueError(
                self._refusal("is CHAR, which drops the blanks that a given text ends with")
            )
        return parts

    def as_given(self, values: Sequence[Any]) -> list[Any]:
        """Values that the database returned, as an application gives them: CHAR comes padded."""
        if self.drops_trailing_blanks:
            return [value.rstrip(" ") if value else value for value in values]
        return list(values)

    def _uuid(self, value: str, dialect_name: str) -> uuid.UUID:
        parsed = uuid.UUID(value)
        # A column of type UUID takes every spelling; elsewhere the text is stored as it is.
        native = dialect_name == "postgresql" and getattr(self.column.type, "native_uuid", True)
        if not native and value.replace("-", "") != parsed.hex:
            raise ValueError("a UUID is given as lower-case hexadecimal digits, with or without -")
        return parsed

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
    if column.nullable:
        raise ConfigurationError(
            f"{where}: {role} column {name!r} is nullable, and a value cannot be bound to NULL;"
            " declare it with nullable=False"
        )
    _refuse_changing(column, where, role)
    if column.computed is not None:
        raise ConfigurationError(
            f"{where}: {role} column {name!r} is computed by the database, so its value is not"
            " known when a value is sealed; name a column that the application writes"
        )
    return _of_kind(column, f"{where}: {role} column {name!r}")


def _refuse_changing(column: Column[Any], where: str, role: str) -> None:
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
            raise ConfigurationError(
                f"{described} is a foreign key ON UPDATE {rule}: the database would change it, and"
                " leave the values of the row behind. Use a key that never changes, or change it"
                " through the ORM (passive_updates=False)"
            )


def _of_kind(column: Column[Any], described: str) -> BoundColumn:
    # Another type on one of the databases must store the same values in the same way.
    variants = type_and_variants(column.type)
    kinds = {_part_kind(each) for each in variants}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None:
        raise ConfigurationError(
            f"{described} has type {column.type!r}; values can be bound to columns of Integer,"
            " String, Uuid, LargeBinary and Date, of one kind on every database. Name other columns"
            ' with identity=[...], or give up row binding with bind="column"'
        )
    if kind not in (STR_PART, BYTES_PART):
        as_uuid = getattr(column.type, "as_uuid", True)
        return BoundColumn(column, kind, text_uuid=kind is UUID_PART and not as_uuid)
    lengths = [getattr(each, "length", None) for each in variants]
    is_char = any(isinstance(each, (types.CHAR, types.NCHAR)) for each in variants)
    return BoundColumn(column, kind, min((n for n in lengths if n), default=None), is_char)


def _part_kind(sqlalchemy_type: types.TypeEngine[Any]) -> PartKind | None:
    if isinstance(sqlalchemy_type, (types.Enum, types.TypeDecorator)):
        return None
    # MySQL cuts blanks off a text that is too long for its 255 bytes, without a word.
    if isinstance(sqlalchemy_type, mysql.TINYTEXT) or has_format_of_its_own(sqlalchemy_type):
        return None
    # ZEROFILL changes the text of a number, fixed-length BINARY pads with zeros.
    if getattr(sqlalchemy_type, "zerofill", False) or isinstance(sqlalchemy_type, types.BINARY):
        return None
    kinds: Sequence[tuple[type[types.TypeEngine[Any]], PartKind]] = (
        (types.Integer, INT_PART),
        (types.Uuid, UUID_PART),
        (types.LargeBinary, BYTES_PART),
        (types.VARBINARY, BYTES_PART),
        (types.Date, DATE_PART),
        (types.String, STR_PART),
    )
    return next((kind for base, kind in kinds if isinstance(sqlalchemy_type, base)), None)
