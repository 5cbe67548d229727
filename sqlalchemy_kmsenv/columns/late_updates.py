"""The UPDATE that puts sealed values into rows which were inserted without them.

By primary key, and of a bare table, so that no default and no hook has its say. One
batch; the drivers of MySQL and MariaDB would send each of its rows by itself, so there
many rows go into one statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Connection,
    Integer,
    LargeBinary,
    Table,
    and_,
    bindparam,
    case,
    column,
    func,
    or_,
    select,
    table,
    update,
)

from sqlalchemy_kmsenv.columns.batch import ADDED_PREFIX
from sqlalchemy_kmsenv.columns.built_in import BuiltIn
from sqlalchemy_kmsenv.columns.ledger import LateRows
from sqlalchemy_kmsenv.columns.own_operators import equal
from sqlalchemy_kmsenv.columns.sealed import Sealed
from sqlalchemy_kmsenv.columns.stored_rows import Key
from sqlalchemy_kmsenv.columns.transactions import counts_rows, schema_of

Cells = Sequence[Sealed | None]
"""What one row gets, a column each."""

_ROWS_A_CHECK = 500
_ROWS_A_STATEMENT = 100
"""The database compares the key of each row with up to so many."""
_BYTES_A_STATEMENT = 1 << 20
"""Far below the 16 MiB that MySQL's and MariaDB's max_allowed_packet is by default."""


class LateUpdate:
    """Writes the cells of rows that the same columns of one table wait for."""

    def __init__(self, rows: LateRows) -> None:
        keys = list(rows.table.primary_key.columns)
        names = [each.binding.column.name for each in rows.columns]
        # What the database changes on every UPDATE was right when the row was inserted.
        kept = database_set(rows.table)
        columns: list[ColumnClause[Any]] = [
            *(column(each.name, each.type) for each in keys),
            *(column(name, LargeBinary()) for name in names),
            *(column(name) for name in kept if name not in names),
        ]
        schema = schema_of(rows.table, rows.options)
        self._target = table(rows.table.name, *columns, schema=schema)
        self._keys = [self._target.c[each.name] for each in keys]
        self._cells = [self._target.c[name] for name in names]
        self._kept = {self._target.c[name]: self._target.c[name] for name in kept}

    def write(self, connection: Connection, keys: Sequence[Key], cells: Sequence[Cells]) -> int:
        """How many of the rows with these keys are there, and got their cells."""
        alone = connection.dialect.name in ("mysql", "mariadb")
        simple = len(self._keys) == 1 and isinstance(self._keys[0].type, Integer)
        if alone and simple and len(keys) > 1:
            parts = _parts(cells)
            return sum(self._at_once(connection, keys[p], cells[p]) for p in parts)
        return self._in_a_batch(connection, keys, cells)

    def _in_a_batch(
        self, connection: Connection, keys: Sequence[Key], cells: Sequence[Cells]
    ) -> int:
        same = [
            equal(each, bindparam(_key(i), type_=each.type), connection.dialect)
            for i, each in enumerate(self._keys)
        ]
        values = {
            each: bindparam(_value(i), type_=LargeBinary()) for i, each in enumerate(self._cells)
        }
        parameters = [
            {
                **{_key(i): part for i, part in enumerate(key)},
                **{_value(i): _stored(cell) for i, cell in enumerate(row)},
            }
            for key, row in zip(keys, cells, strict=True)
        ]
        statement = update(self._target).where(*same).values({**self._kept, **values})
        result = connection.execute(statement, parameters)
        return self._found(connection, result.rowcount, len(keys), keys)

    def _at_once(self, connection: Connection, keys: Sequence[Key], cells: Sequence[Cells]) -> int:
        (key,) = self._keys
        wanted = [bindparam(f"{_key(0)}_{n}", type_=key.type) for n in range(len(keys))]
        values: dict[Any, Any] = dict(self._kept)
        parameters = {f"{_key(0)}_{n}": part for n, (part,) in enumerate(keys)}
        for i, each in enumerate(self._cells):
            names = [f"{_value(i)}_{n}" for n in range(len(keys))]
            sealed = [bindparam(name, type_=LargeBinary()) for name in names]
            values[each] = case(*zip(wanted, sealed, strict=True), value=key)
            parameters |= {name: _stored(row[i]) for name, row in zip(names, cells, strict=True)}
        statement = update(self._target).where(key.in_(wanted)).values(values)
        result = connection.execute(statement, parameters)
        return self._found(connection, result.rowcount, 1, keys)

    def _found(
        self, connection: Connection, counted: int, executions: int, keys: Sequence[Key]
    ) -> int:
        if counts_rows(connection.dialect, executions) and counted >= 0:
            return counted
        return sum(self._seen(connection, keys))

    def _seen(self, connection: Connection, keys: Sequence[Key]) -> Iterator[int]:
        """How many of the rows can be seen, for drivers that do not count what they update."""
        for start in range(0, len(keys), _ROWS_A_CHECK):
            same = (
                and_(
                    *(
                        equal(each, part, connection.dialect)
                        for each, part in zip(self._keys, key, strict=True)
                    )
                )
                for key in keys[start : start + _ROWS_A_CHECK]
            )
            query = select(BuiltIn(func.count())).select_from(self._target).where(or_(*same))
            yield connection.scalar(query) or 0


def database_set(owner: Table) -> list[str]:
    """The columns that the database sets on every UPDATE; an UPDATE that names them keeps them.

    Generated columns are not among them: no statement may set those, and no need to.
    """
    return [
        each.name
        for each in owner.columns
        if each.server_onupdate is not None and each.computed is None and each.identity is None
    ]


def _parts(cells: Sequence[Cells]) -> Iterator[slice]:
    """As many rows together as a statement takes."""
    start = size = 0
    for end, row in enumerate(cells):
        more = sum(len(cell.stored) for cell in row if cell is not None)
        if end - start == _ROWS_A_STATEMENT or (end > start and size + more > _BYTES_A_STATEMENT):
            yield slice(start, end)
            start, size = end, 0
        size += more
    yield slice(start, len(cells))


def _key(place: int) -> str:
    return f"{ADDED_PREFIX}key_{place}"


def _value(place: int) -> str:
    return f"{ADDED_PREFIX}value_{place}"


def _stored(cell: Sealed | None) -> bytes | bytearray | None:
    return cell.stored if cell else None
