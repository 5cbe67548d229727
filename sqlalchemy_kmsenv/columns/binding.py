"""What a column's values are bound to: logical names, row identity and scope."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, Table, UniqueConstraint, types
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import context
from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    INT_PART,
    PART_END,
    STR_PART,
    UUID_PART,
    Cell,
    PartKind,
    context_text,
    split_section,
)
from sqlalchemy_kmsenv.columns.client_defaults import in_application
from sqlalchemy_kmsenv.columns.inner import InnerValues, inner_values
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.variants import has_format_of_its_own, type_and_variants
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import ContextPairs

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.columns.encrypted import Encrypted


class IncompleteTableError(ConfigurationError):
    """A table lacks its primary key, or a column that an encrypted one names.

    Alembic adds the constraints of a new table after its columns, and builds a
    table of one column to add that, so that this says nothing of the model yet.
    """


SCOPE_COLUMN = "column"
SCOPE_ROW = "row"


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


@dataclass(frozen=True, slots=True)
class Binding:
    """Everything about an encrypted column that does not depend on a row."""

    column: Column[Any]
    keyring_name: str
    table_name: str
    column_name: str
    identity: tuple[BoundColumn, ...]
    scope: tuple[BoundColumn, ...]
    scope_is_row: bool
    values: InnerValues = field(repr=False)

    @property
    def bound_columns(self) -> tuple[BoundColumn, ...]:
        """Identity, then scope: the order of the parts of a section."""
        return self.identity + self.scope

    @property
    def shares_data_keys(self) -> bool:
        """Whether every value of the column has the same encryption context."""
        return not self.scope and not self.scope_is_row

    def cell(self, section: bytes) -> Cell:
        """The cell that a section names; parts that are missing stay out."""
        rows = len(self.identity)
        parts = split_section(section)
        return Cell(self.table_name, self.column_name, parts[:rows], parts[rows:])

    @property
    def column_pairs(self) -> ContextPairs:
        """The pairs of the encryption context that are the same in every row."""
        return (context.COLUMN, self.column_name), (context.TABLE, self.table_name)

    def pairs(self, section: bytes) -> ContextPairs:
        """The encryption context of a section's data key, without the keyring's own pairs.

        Raises:
            ValueError: a part is not one that this library writes.
        """
        pairs = dict(self.column_pairs)
        scope_parts = split_section(section)[len(self.identity) :]
        for bound, part in zip(self.scope, scope_parts, strict=True):
            pairs[bound.column.name] = context_text(part)
        if self.scope_is_row:
            pairs[context.ROW] = section.removesuffix(PART_END).decode()
        return tuple(sorted(pairs.items()))

    def pairs_key(self, section: bytes) -> bytes:
        """The end of ``section`` that decides about its encryption context."""
        if self.scope_is_row:
            return section
        if not self.scope:
            return b""
        return section.split(PART_END, len(self.identity))[-1]


def build_binding(column: Column[Any], encrypted: Encrypted) -> Binding:
    """Check how an encrypted column is declared, and resolve the columns that it names.

    Raises:
        ConfigurationError: with what to change.
    """
    table = column.table
    where = f"{table.name}.{column.name}"
    _check_column(column, where)
    table_name, column_name = _logical_names(column, encrypted.name)
    scope, scope_is_row = _scope(table, encrypted, where)
    return Binding(
        column=column,
        keyring_name=encrypted.keyring,
        table_name=table_name,
        column_name=column_name,
        identity=_identity(table, encrypted, where),
        scope=scope,
        scope_is_row=scope_is_row,
        values=inner_values(encrypted.inner, where, encrypted.pad_to),
    )


def _check_column(column: Column[Any], where: str) -> None:
    if column.primary_key or column.foreign_keys:
        raise ConfigurationError(
            f"{where}: an encrypted column can be neither a primary key nor a foreign key, since"
            " two envelopes of one value differ; use a surrogate key"
        )
    if column.unique or column.index:
        raise ConfigurationError(
            f"{where}: unique=True and index=True have no effect on an encrypted column, since two"
            " envelopes of one value differ; take them out"
        )
    if column.server_default is not None or column.server_onupdate is not None:
        raise ConfigurationError(
            f"{where}: a server default would store plaintext; use default= or onupdate=, which"
            " run in the application"
        )
    for name in ("default", "onupdate"):
        given = getattr(column, name)
        if given is not None and in_application(given) is None:
            raise ConfigurationError(
                f"{where}: {name}= is an SQL expression, which would store plaintext; give a value"
                " or a Python function"
            )


def _logical_names(column: Column[Any], name: str | None) -> tuple[str, str]:
    if name is None:
        return column.table.fullname, column.name
    table_name, _, column_name = name.rpartition(".")
    return table_name, column_name


def _identity(table: Table, encrypted: Encrypted, where: str) -> tuple[BoundColumn, ...]:
    if encrypted.bind == "column":
        return ()
    if encrypted.identity is not None:
        identity = _bound_columns(table, encrypted.identity, where, "identity")
        _check_unique(table, identity, where)
        return identity
    if not table.primary_key.columns:
        raise IncompleteTableError(
            f"{where}: table {table.name} has no primary key to bind values to; declare one, name"
            " the columns that identify a row with identity=[...], or give up row binding with"
            ' bind="column"'
        )
    keys = [column.key for column in table.primary_key.columns]
    return _bound_columns(table, keys, where, "primary key")


def _check_unique(table: Table, identity: Iterable[BoundColumn], where: str) -> None:
    """Refuse an identity that two rows may share: values could be copied from one to the other.

    Raises:
        IncompleteTableError: no unique key of the table is part of it.
    """
    named = {bound.column for bound in identity}
    keys: list[set[Column[Any]]] = [set(table.primary_key.columns)]
    keys += [set(each.columns) for each in table.constraints if isinstance(each, UniqueConstraint)]
    keys += [set(each.columns) for each in table.indexes if each.unique and _is_whole(each)]
    keys += [{column} for column in named if column.unique]
    if not any(key and key <= named for key in keys):
        names = ", ".join(sorted(column.key for column in named))
        raise IncompleteTableError(
            f"{where}: identity columns {names} are not unique in {table.name}, so that two rows"
            " could share their values; declare a UniqueConstraint over them, or name others"
        )


def _is_whole(index: Index) -> bool:
    """Whether an index is over all rows, and over columns alone."""
    partial = any(options.get("where") is not None for options in index.dialect_options.values())
    return not partial and len(index.columns) == len(index.expressions)


def _scope(table: Table, encrypted: Encrypted, where: str) -> tuple[tuple[BoundColumn, ...], bool]:
    if isinstance(encrypted.scope, str):
        return (), encrypted.scope == SCOPE_ROW
    scope = _bound_columns(table, encrypted.scope, where, "scope")
    for bound in scope:
        context.check_pair_name(bound.column.name, f"{where}: scope=[...]")
    return scope, False


def _bound_columns(
    table: Table, names: Iterable[str], where: str, role: str
) -> tuple[BoundColumn, ...]:
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
