"""The stored bytes of one column and the keys of its rows, read and written in bare SQL.

Constructs of ``table()`` and ``column()``, so that neither ORM events nor defaults,
``onupdate`` or this library's own hooks have their say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Row,
    Select,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    table,
    type_coerce,
)
from sqlalchemy.types import NullType

from sqlalchemy_kmsenv.columns import PackedCell
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.built_in import BuiltIn
from sqlalchemy_kmsenv.columns.late_updates import database_set
from sqlalchemy_kmsenv.columns.own_operators import equal, equal_to_one
from sqlalchemy_kmsenv.columns.transactions import Options, schema_of
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.rewrap.keyed import Key, behind, bound_parameters, key_text, up_to
from sqlalchemy_kmsenv.rewrap.physical import (
    Columns,
    check_key,
    check_no_null,
    key_column,
    null_in_key,
    physical_columns,
)

Rows = Sequence[Row[Any]]
"""Key parts, the first bytes of the value, its length, then one section for each binding."""

_AFTER, _UPTO, _KEY = "kmsenv_after", "kmsenv_upto", "kmsenv_key"


class RawTable:
    """The statements of a job for one column.

    ``bindings`` are those whose sections are read with each row; ``prefix_bytes``
    is how much of the value is.

    Raises:
        ConfigurationError: the table has no primary key, or one that pages cannot follow.
    """

    def __init__(
        self, engine: Engine, cell: Column[Any], bindings: Sequence[Binding], prefix_bytes: int
    ) -> None:
        owner = cell.table
        keys = list(owner.primary_key.columns)
        if not keys:
            raise ConfigurationError(
                f"{owner.name}.{cell.name}: table {owner.name} has no primary key, so a job could"
                " not tell its rows apart nor go on where it was; give it one"
            )
        options: Options = engine.get_execution_options()
        bound = {each.column.name: each.column for b in bindings for each in b.bound_columns}
        named = {**bound, **{each.name: each for each in keys}}
        found = physical_columns(engine, owner.name, schema_of(owner, options))
        check_key(engine, keys, found)
        self.kept = _kept_columns(cell, found)
        stored = found.get(cell.name)
        self.bytes_at_most = None if stored is None else stored.bytes_at_most
        """What the column takes of a value: without strict mode the rest would be cut off."""
        self.bare = table(
            owner.name,
            column(cell.name, LargeBinary()),
            *(column(name, each.type) for name, each in named.items()),
            *(column(name) for name in self.kept if name not in named),
            schema=schema_of(owner, options),
        )
        primary = {name.lower() for name, each in found.items() if each.primary}
        own = {each.name.lower() for each in keys}
        self.hint = "FORCE INDEX (PRIMARY)" if primary == own else ""
        """For statements that lock rows by key: MySQL and MariaDB take a scan for faster where
        the list is long, and lock all that they pass."""
        self.key = [key_column(engine, self.bare.c[each.name]) for each in keys]
        check_no_null(engine, self.bare, self.key)
        self.cell = self.bare.c[cell.name]
        self.stored = _as_bytes(self.cell, engine)
        """What is read of it, and compared."""
        self._bindings = bindings
        self.prefix_bytes = prefix_bytes
        self.dialect = engine.dialect
        self._pages: dict[tuple[bool, bool], Select[Any]] = {}

    def page(
        self, connection: Connection, after: Key | None, upto: Key | None, limit: int | None
    ) -> Rows:
        """The rows behind ``after``, not behind ``upto``, in the order of the key.

        Raises:
            ConfigurationError: the row at ``after`` comes again, or one has NULL in its key.
        """
        query = self._page(after is not None, upto is not None)
        given = {**bound_parameters(_AFTER, after or ()), **bound_parameters(_UPTO, upto or ())}
        if limit is not None:
            query = query.limit(limit)
        rows = self._rows(connection, query, given)
        if any(part is None for row in rows for part in row[: len(self.key)]):
            raise null_in_key(self.bare.name)
        ends = [tuple(row[: len(self.key)]) for row in (*rows[:1], *rows[-1:])]
        if after is not None and after in ends:
            raise ConfigurationError(
                f"{self.bare.name}: the row with the key {', '.join(key_text(after))} came again"
                " behind itself, so the key that the model gives is not the one that the database"
                " has, and a job would read the same rows for ever; declare the key's columns with"
                " the types that they have in the database"
            )
        return rows

    def _rows(self, connection: Connection, query: Select[Any], given: dict[str, Any]) -> Rows:
        try:
            return connection.execute(query, given).all()
        except (ValueError, TypeError) as error:
            # SQLAlchemy makes dates and UUIDs of what SQLite has, which may be anything.
            raise ConfigurationError(
                f"{self.bare.name}: the database holds a key that is no value of its type"
                f" ({type(error).__name__}), and pages cannot pass it; mend or delete that row"
            ) from error

    def row(self, connection: Connection, key: Key, size: int | None = None) -> Row[Any] | None:
        """One row, with the first ``size`` bytes of its value; all of them by default."""
        query = select(*self._columns(size)).where(*self.same_key())
        return connection.execute(query, self.key_parameters(key)).one_or_none()

    def count(self, connection: Connection) -> int:
        """How many rows there are."""
        return connection.scalar(select(BuiltIn(func.count())).select_from(self.bare)) or 0

    def extremes(self, connection: Connection) -> tuple[Any, Any]:
        """The least and the greatest first part of the key; None, None in an empty table."""
        # Two queries: each is one look into the index, where min and max together may be a scan.
        first = self.key[0]
        ends = (first.asc(), first.desc())
        least, greatest = (connection.scalar(select(first).order_by(e).limit(1)) for e in ends)
        return least, greatest

    def sampled_keys(self, connection: Connection, parts: int) -> list[Key]:
        """The keys that cut the table into ``parts`` of the same size."""
        total = self.count(connection)
        wanted = sorted({total * number // parts for number in range(1, parts)} - {0, total})
        if not wanted:
            return []
        # A function of another name where PostgreSQL would look through search_path.
        own = func.pg_catalog if self.dialect.name == "postgresql" else func
        counted = own.row_number(type_=BigInteger())
        number = counted.over(order_by=self.key).label("kmsenv_number")
        numbered = select(*self.key, number).subquery()
        columns = [numbered.c[each.name] for each in self.key]
        these = equal_to_one(numbered.c.kmsenv_number, wanted, self.dialect)
        query = select(*columns).where(these)
        found = connection.execute(query.order_by(numbered.c.kmsenv_number))
        return [tuple(row) for row in found]

    def key_parameters(self, key: Key) -> dict[str, Any]:
        """The parameters that name a row in ``same_key``."""
        return bound_parameters(_KEY, key)

    @property
    def key_names(self) -> list[str]:
        """The names of those parameters."""
        return [f"{_KEY}_{i}" for i in range(len(self.key))]

    def _page(self, after: bool, upto: bool) -> Select[Any]:
        query = self._pages.get((after, upto))
        if query is None:
            query = select(*self._columns(self.prefix_bytes)).order_by(*self.key)
            if after:
                query = query.where(behind(self.key, _AFTER, self.dialect))
            if upto:
                query = query.where(up_to(self.key, _UPTO, self.dialect))
            self._pages[after, upto] = query
        return query

    def _columns(self, size: int | None) -> list[ColumnElement[Any]]:
        whole: ColumnElement[Any] = type_coerce(self.stored, NullType())
        start = whole if size is None else BuiltIn(func.substr(self.stored, 1, size))
        sections = [self._section(binding) for binding in self._bindings]
        return [*self.key, start, BuiltIn(func.length(self.stored)), *sections]

    def _section(self, binding: Binding) -> ColumnElement[Any]:
        parts = tuple((b.kind, self.bare.c[b.column.name]) for b in binding.bound_columns)
        all_primary = all(bound.column.primary_key for bound in binding.bound_columns)
        nothing = literal(b"", LargeBinary())
        return type_coerce(PackedCell(nothing, parts, all_primary=all_primary), LargeBinary())

    def same_key(self) -> list[ColumnElement[bool]]:
        """The conditions that name a row by ``key_parameters``."""
        return [
            equal(each, bindparam(name, type_=each.type), self.dialect)
            for each, name in zip(self.key, self.key_names, strict=True)
        ]


def stored_bytes(value: Any) -> bytes:
    """What a driver returned for a binary value, or for text in its place, as bytes.

    SQLite may hold text in a BLOB column; MariaDB makes a text of a section in which
    nothing is binary.
    """
    return value.encode(errors="surrogateescape") if isinstance(value, str) else bytes(value)


def _as_bytes(cell: ColumnElement[Any], engine: Engine) -> ColumnElement[Any]:
    # SQLite holds text in a BLOB column where somebody stored it, and Python's driver raises
    # for the whole page where that is not UTF-8.
    return cast(cell, LargeBinary()) if engine.dialect.name == "sqlite" else cell


def _kept_columns(cell: Column[Any], found: Columns) -> list[str]:
    """The columns that the database changes at each UPDATE; setting them keeps them."""
    names = set(database_set(cell.table))
    names |= {name for name, each in found.items() if each.set_on_update}
    return sorted(names - {cell.name})
