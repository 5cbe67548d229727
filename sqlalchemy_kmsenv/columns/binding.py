"""What a column's values are bound to: logical names, row identity and scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import Column, Index, Table, UnaryExpression, UniqueConstraint

from sqlalchemy_kmsenv import context
from sqlalchemy_kmsenv.cell import (
    MAX_NAME_BYTES,
    MAX_PARTS,
    PART_END,
    Cell,
    context_text,
    split_section,
)
from sqlalchemy_kmsenv.columns.bound_columns import (
    BoundColumn,
    IncompleteTableError,
    bound_columns,
)
from sqlalchemy_kmsenv.columns.client_defaults import in_application
from sqlalchemy_kmsenv.columns.inner import InnerValues, inner_values
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import ContextPairs

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.columns.encrypted import Encrypted


SCOPE_COLUMN: Final = "column"
SCOPE_ROW: Final = "row"
# Not Sequence[str], which every str is: a misspelt scope would pass the type checker.
Keys = list[str] | tuple[str, ...]
Scope = Literal["column", "row"] | Keys
Bind = Literal["row", "column"]


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


def build_binding(column: Column[Any], encrypted: Encrypted[Any]) -> Binding:
    """Check how an encrypted column is declared, and resolve the columns that it names.

    Raises:
        ConfigurationError: with what to change.
    """
    table = column.table
    where = f"{table.name}.{column.name}"
    _check_column(column, where)
    table_name, column_name = logical_names(column, encrypted.name)
    _check_names(table_name, column_name, where)
    identity = _identity(table, encrypted, where)
    scope, scope_is_row = _scope(table, encrypted, where)
    _check_numbers(identity, scope, where)
    return Binding(
        column=column,
        keyring_name=encrypted.keyring,
        table_name=table_name,
        column_name=column_name,
        identity=identity,
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


def logical_names(column: Column[Any], name: str | None) -> tuple[str, str]:
    """The table and the column that values are bound to: those of the database, or pinned ones."""
    if name is None:
        return column.table.fullname, column.name
    table_name, _, column_name = name.rpartition(".")
    return table_name, column_name


def _check_names(table_name: str, column_name: str, where: str) -> None:
    """Refuse names that associated data cannot hold (FORMAT.md, clause 4.2)."""
    if not all(0 < len(name.encode()) <= MAX_NAME_BYTES for name in (table_name, column_name)):
        raise ConfigurationError(
            f"{where}: the logical names of table and column take 1 to {MAX_NAME_BYTES:,}"
            ' bytes each; give others with name="table.column"'
        )


def _check_numbers(
    identity: tuple[BoundColumn, ...], scope: tuple[BoundColumn, ...], where: str
) -> None:
    """Refuse more parts than associated data can count (FORMAT.md, clause 4.7)."""
    if max(len(identity), len(scope)) > MAX_PARTS:
        raise ConfigurationError(
            f"{where}: a value can be bound to {MAX_PARTS} columns of its row, and as many of its"
            " scope; name fewer with identity=[...] and scope=[...]"
        )


def _identity(table: Table, encrypted: Encrypted[Any], where: str) -> tuple[BoundColumn, ...]:
    if encrypted.bind == "column":
        return ()
    if encrypted.identity is not None:
        identity = bound_columns(table, encrypted.identity, where, "identity")
        _check_unique(table, identity, where)
        return identity
    if not table.primary_key.columns:
        raise IncompleteTableError(
            f"{where}: table {table.name} has no primary key to bind values to; declare one, name"
            " the columns that identify a row with identity=[...], or give up row binding with"
            ' bind="column"'
        )
    keys = [column.key for column in table.primary_key.columns]
    return bound_columns(table, keys, where, "primary key")


def _check_unique(table: Table, identity: Iterable[BoundColumn], where: str) -> None:
    """Refuse an identity that two rows may share: values could be copied from one to the other.

    Raises:
        IncompleteTableError: no unique key of the table is part of it.
    """
    named = {bound.column for bound in identity}
    if not any(named.issuperset(key) for key in unique_keys(table)):
        names = ", ".join(sorted(column.key for column in named))
        raise IncompleteTableError(
            f"{where}: identity columns {names} are not unique in {table.name}, so that two rows"
            " could share their values; declare a UniqueConstraint over them, or name others"
        )


def unique_keys(table: Table) -> Iterator[list[Column[Any]]]:
    """The primary key, then every other list of columns that no two rows agree in."""
    keys = [list(table.primary_key.columns)]
    keys += [list(each.columns) for each in table.constraints if isinstance(each, UniqueConstraint)]
    keys += [list(each.columns) for each in table.indexes if each.unique and is_whole(each)]
    keys += [[column] for column in table.columns if column.unique]
    return (key for key in keys if key)


def is_whole(index: Index) -> bool:
    """Whether an index is over all rows, and over columns alone."""
    partial = any(options.get("where") is not None for options in index.dialect_options.values())
    # Of an expression over several columns, ``Index.columns`` has the first.
    return not partial and all(isinstance(_unordered(each), Column) for each in index.expressions)


def _unordered(expression: Any) -> Any:
    while isinstance(expression, UnaryExpression) and expression.modifier is not None:
        expression = expression.element
    return expression


def _scope(
    table: Table, encrypted: Encrypted[Any], where: str
) -> tuple[tuple[BoundColumn, ...], bool]:
    if isinstance(encrypted.scope, str):
        return (), encrypted.scope == SCOPE_ROW
    scope = bound_columns(table, encrypted.scope, where, "scope")
    for bound in scope:
        context.check_pair_name(bound.column.name, f"{where}: scope=[...]")
    return scope, False
