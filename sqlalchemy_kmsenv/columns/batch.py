"""One execution of an INSERT or UPDATE, while its plaintext is replaced by envelopes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Column,
    Connection,
    Insert,
    Table,
    Update,
    bindparam,
)
from sqlalchemy.sql import visitors

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.client_defaults import completed, insert_default, update_default
from sqlalchemy_kmsenv.columns.conflicts import conflicts
from sqlalchemy_kmsenv.columns.dml import (
    FromDatabase,
    FromParameters,
    FromStatement,
    Row,
    Rows,
    Source,
    inline_values,
    values_of,
    with_value,
)
from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.sealing import seal_values
from sqlalchemy_kmsenv.columns.transactions import Options

ADDED_PREFIX = "kmsenv_"
"""Begins the names of the parameters that this library adds to a statement."""

S = TypeVar("S", Insert, Update)


class Batch(Generic[S]):
    """The statement and its parameter sets; ``rows`` are never changed, but copied at the end."""

    def __init__(
        self, connection: Connection, statement: S, table: Table, rows: Rows, options: Options
    ) -> None:
        self.connection = connection
        self.options = options
        self.statement: S = statement
        self._inserts = isinstance(statement, Insert)
        self.table = table
        self.rows: Rows = rows or [{}]
        self._inline = inline_values(statement, table, self.rows)
        self.defaulted: list[Column[Any]] = []
        """The columns whose defaults were evaluated here, for SQLAlchemy."""
        self.given: dict[str, tuple[str, Sequence[Any]]] = {}
        """By the name of a parameter that is sealed: the name and the values it would have had."""
        self._changes: dict[str, Sequence[Any]] = {}
        self._dropped: set[str] = set()
        self._released: set[str] = set()
        """The parameters whose values were sealed under other names."""
        self._parts: dict[str, list[bytes]] = {}
        self._sections: dict[tuple[str, ...], list[bytes]] = {}

    def _refuse_uneven_rows(self) -> None:
        # SQLAlchemy goes by the first set of parameters: what only later ones have would not be
        # sealed, and would be printed with an error about what they lack.
        first = self.rows[0].keys()
        if all(row.keys() == first for row in self.rows):
            return
        encrypted = {each.key for each in self.table.columns if isinstance(each.type, Encrypted)}
        for row in self.rows:
            for key in encrypted & (row.keys() - first):
                raise _missing(self.table.columns[key])

    def written_keys(self) -> set[str]:
        """The keys of the columns that get a value from the statement or its parameters."""
        return {key for key in self.rows[0] if key in self.table.columns} | self._inline.keys()

    def source(self, column: Column[Any]) -> Source | None:
        """Where the value of a written column comes from; None where it is not written.

        Raises:
            UnboundValueError: it comes from two places.
        """
        inline = self._inline.get(column.key)
        if column.key not in self.rows[0]:
            return inline.source if inline else None
        if inline is not None and isinstance(inline.source, FromParameters):
            # As for SQLAlchemy: bindparam("note") as the value of note takes that parameter.
            return inline.source
        if inline is not None:
            raise UnboundValueError(
                f"{described(column)} is given a value in the statement and another one in the"
                " parameters; give one"
            )
        return FromParameters(column.key)

    def complete(self) -> None:
        """Add the defaults that SQLAlchemy would run later, where this statement seals anything.

        Raises:
            UnboundValueError: a set of parameters has an encrypted column that others lack.
        """
        self._refuse_uneven_rows()
        self._add_defaults(lambda column: column.key in self.rows[0] or column.key in self._inline)

    def _add_defaults(self, has: Callable[[Column[Any]], bool]) -> None:
        find = insert_default if self._inserts else update_default
        columns = [each for each in self.table.columns if find(each) is not None and not has(each)]
        written = self.written_keys() | {each.key for each in columns}
        encrypted = {each.key for each in self.table.columns if isinstance(each.type, Encrypted)}
        if columns and written & encrypted:
            self.rows = self._completed(columns)
            self.defaulted = columns

    def _completed(self, columns: Sequence[Column[Any]]) -> list[Row]:
        given = {
            key: inline.source.value
            for key, inline in self._inline.items()
            if isinstance(inline.source, FromStatement)
        }
        names = {each.key for each in columns}
        # What a later set of parameters has counts for nothing where the first one lacks it.
        rows = [{k: v for k, v in {**given, **row}.items() if k not in names} for row in self.rows]
        complete = completed(
            columns, self.connection, rows, isinsert=self._inserts, options=self.options
        )
        return [
            {**row, **{name: full[name] for name in names}}
            for row, full in zip(self.rows, complete, strict=True)
        ]

    def values(self, column: Column[Any], source: Source) -> list[Any]:
        """One value a row.

        Raises:
            UnboundValueError: the database computes it, or a parameter set lacks it.
        """
        if isinstance(source, FromDatabase):
            raise UnboundValueError(
                f"{described(column)} is set to an SQL expression, whose value is only known to the"
                " database; nothing can be sealed with it. Give a Python value"
            )
        try:
            return values_of(source, self.rows)
        except KeyError:
            raise _missing(column) from None

    def keep(self, bound: BoundColumn, values: Sequence[Any]) -> None:
        """Use ``values``, one a row, where ``bound`` is part of an identity or a scope."""
        self._parts[bound.column.key] = bound.parts(values, self.connection.dialect)

    def keeps(self, bound: BoundColumn) -> bool:
        """Whether the values of ``bound`` are known already."""
        return bound.column.key in self._parts

    def add(self, name: str, values: Sequence[Any]) -> None:
        """Give every row a parameter more, or in the place of its own."""
        self._changes[name] = values

    def parameter(
        self, name: str, column: Column[Any], values: Sequence[Any]
    ) -> BindParameter[Any]:
        """A parameter more, of the type of ``column``."""
        full_name = f"{ADDED_PREFIX}{name}_{len(self._changes)}"
        self.add(full_name, values)
        return bindparam(full_name, type_=column.type)

    def drop(self, name: str) -> None:
        """Leave a parameter out of every row."""
        self._dropped.add(name)

    def release(self, name: str) -> None:
        """Leave a parameter out unless something else in the statement takes its value."""
        self._released.add(name)

    def seal(self, binding: Binding, source: Source, values: Sequence[Any]) -> None:
        """Put envelopes in the place of the plaintext of one column.

        Every bound column must have been kept before.
        """
        self.put(binding, source, self.sealed(binding, values), values)

    def sealed(self, binding: Binding, values: Sequence[Any]) -> list[Sealed | None]:
        """One envelope a row, for the rows as they are known: every bound column was kept."""
        sections = self._sections_of(binding.bound_columns)
        return seal_values(binding, values, sections, self.connection.dialect)

    def put(
        self, binding: Binding, source: Source, values: Sequence[Any], given: Sequence[Any]
    ) -> None:
        """Write ``values`` where the statement had the plaintext ``given``."""
        column = binding.column
        if isinstance(source, FromParameters):
            name = source.key
            if column.key in self._inline:
                # Its parameter may stand elsewhere too, and have a type that knows no envelopes.
                name = self._replace_inline(column, values)
                self.release(source.key)
                self.release(column.key)
            else:
                self.add(name, values)
            self.given[name] = (source.key, given)
        elif isinstance(source, FromStatement):
            name = self._replace_inline(column, values)
            self.given[name] = (column.key, given)

    def result(self) -> tuple[S, list[Row]]:
        """The statement and the parameter sets to execute instead."""
        if not self._changes and not self._dropped and not self._released:
            return self.statement, list(self.rows)
        dropped = self._dropped | (self._released - self._parameters_taken())
        if dropped:
            copies = [{k: v for k, v in row.items() if k not in dropped} for row in self.rows]
        else:
            copies = [dict(row) for row in self.rows]
        for name, values in self._changes.items():
            for copy, value in zip(copies, values, strict=True):
                copy[name] = value
        return self.statement, list(copies)

    def _parameters_taken(self) -> set[str]:
        if not self._released:
            return set()
        statement: Any = self.statement
        parts: list[Any] = [statement]
        if self._inserts:
            parts += _parts_of_upserts(statement)
        return {
            str(element.key)
            for part in parts
            if isinstance(part, ClauseElement)
            for element in visitors.iterate(part)
            if isinstance(element, BindParameter)
        }

    def _replace_inline(self, column: Column[Any], values: Sequence[Any]) -> str:
        name = ADDED_PREFIX + column.key
        self._set_inline(column, bindparam(name, type_=column.type))
        self.add(name, values)
        return name

    def _set_inline(self, column: Column[Any], parameter: BindParameter[Any]) -> None:
        self.statement = with_value(self.statement, self._inline[column.key].key, parameter)

    def _sections_of(self, bound_columns: Iterable[BoundColumn]) -> list[bytes]:
        keys = tuple(bound.column.key for bound in bound_columns)
        if not keys:
            return [b""] * len(self.rows)
        if len(keys) == 1:
            return self._parts[keys[0]]
        sections = self._sections.get(keys)
        if sections is None:
            columns = [self._parts[key] for key in keys]
            sections = list(map(b"".join, zip(*columns, strict=True)))
            self._sections[keys] = sections
        return sections


def _parts_of_upserts(statement: Insert) -> list[Any]:
    return [
        part
        for conflict in conflicts(statement)
        for part in (*conflict.sets.values(), *conflict.conditions)
    ]


def _missing(column: Column[Any]) -> UnboundValueError:
    return UnboundValueError(
        f"{described(column)} is missing from some parameter sets of the batch and given in"
        " others; give it in all, as None where it is NULL"
    )


def described(column: Column[Any]) -> str:
    """A column as messages name it."""
    return f"{column.table.name}.{column.name}"


def all_null(values: Sequence[Any]) -> bool:
    """Whether nothing has to be sealed."""
    return all(value is None for value in values)
