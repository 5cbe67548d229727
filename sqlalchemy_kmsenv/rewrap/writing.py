"""Headers and values written back, where nobody else has written the cell meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    bindparam,
    func,
    literal,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from sqlalchemy_kmsenv.columns.built_in import BuiltIn
from sqlalchemy_kmsenv.columns.own_operators import equal, one_of
from sqlalchemy_kmsenv.columns.renderings import POSTGRESQL_JOIN
from sqlalchemy_kmsenv.columns.transactions import counts_rows
from sqlalchemy_kmsenv.rewrap.keyed import Key
from sqlalchemy_kmsenv.rewrap.tables import RawTable, stored_bytes

Write = dict[str, Any]
"""What one row gets: the parameters of its key, ``OLD`` and ``NEW``."""

Writer = Callable[[Connection, Sequence[Write]], int]
"""Writes rows and returns how many of them it hit."""

NEW, OLD = "kmsenv_new", "kmsenv_old"
_KEYS = "kmsenv_keys"
_WORTH_A_STATEMENT = 4
"""Rows with one header for which one statement of their own is faster than a batch."""

_ROWS_A_STATEMENT = 500
"""Far below every database's limit on parameters."""


class Binary(LargeBinary):
    """Bytes as they are: the DBAPI's ``Binary()`` around each costs time and gains nothing."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """None."""


class Joined(FunctionElement[bytes]):
    """Two binary values, one behind the other."""

    inherit_cache = True
    name = "kmsenv_joined"
    type = Binary()


@compiles(Joined)
def _compile_any(element: Joined, compiler: SQLCompiler, **kw: Any) -> str:
    return " || ".join(compiler.process(each, **kw) for each in element.clauses)


@compiles(Joined, "postgresql")
def _compile_postgresql(element: Joined, compiler: SQLCompiler, **kw: Any) -> str:
    return POSTGRESQL_JOIN.join(compiler.process(each, **kw) for each in element.clauses)


@compiles(Joined, "sqlite")
def _compile_sqlite(element: Joined, compiler: SQLCompiler, **kw: Any) -> str:
    # || makes text of bytes without changing them; the cast only changes the label back.
    return f"CAST({_compile_any(element, compiler, **kw)} AS BLOB)"


@compiles(Joined, "mysql", "mariadb")
def _compile_mysql(element: Joined, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CONCAT({compiler.process(element.clauses, **kw)})"


class CellWriter:
    """Writes cells of one column by the primary keys of their rows.

    A cell is written where its first bytes still are ``OLD``, and where the column is
    long enough for it: without strict mode MySQL and MariaDB cut off what is too long.
    """

    def __init__(self, table: RawTable) -> None:
        self._table = table
        self._statements: dict[tuple[str, int], Any] = {}

    def splice(self, connection: Connection, writes: Sequence[Write]) -> int:
        """Put the header ``NEW`` in the place of the header ``OLD``; how many rows were hit.

        What stands behind the header is left to the database: whoever has written a
        value under the same header meanwhile keeps it.
        """
        if len(self._table.key) > 1:
            return sum(self._one_by_one(connection, "splice", g) for g in _by_old_size(writes))
        alike, others = _by_header(writes)
        return sum(self._splice_at_once(connection, group) for group in alike) + sum(
            self._one_by_one(connection, "splice", group) for group in _by_old_size(others)
        )

    def replace(self, connection: Connection, writes: Sequence[Write]) -> int:
        """Put the value ``NEW`` in the place of one that begins with ``OLD``.

        ``OLD`` ends with the nonce, which is new at each writing.
        """
        limit = self._table.bytes_at_most
        fit = [write for write in writes if limit is None or len(write[NEW]) <= limit]
        return sum(self._one_by_one(connection, "replace", group) for group in _by_old_size(fit))

    def _splice_at_once(self, connection: Connection, group: Sequence[Write]) -> int:
        # One header for all: so is what is to be done, and the database does it in one go.
        (name,) = self._table.key_names
        given = {
            _KEYS: [write[name] for write in group],
            OLD: group[0][OLD],
            NEW: group[0][NEW],
        }
        result = connection.execute(self._statement("at once", len(group[0][OLD])), given)
        if counts_rows(connection.dialect, 1) and result.rowcount >= 0:
            return result.rowcount
        return self._seen(connection, group)

    def _one_by_one(self, connection: Connection, way: str, group: Sequence[Write]) -> int:
        result = connection.execute(self._statement(way, len(group[0][OLD])), list(group))
        if counts_rows(connection.dialect, len(group)) and result.rowcount >= 0:
            return result.rowcount
        return self._seen(connection, group)

    def _seen(self, connection: Connection, group: Sequence[Write]) -> int:
        """How many rows were hit, for drivers that do not count what they update."""
        rows = (self._table.row(connection, self.key_of(write)) for write in group)
        width = len(self._table.key)
        return sum(
            row is not None and stored_bytes(row[width] or b"").startswith(write[NEW])
            for row, write in zip(rows, group, strict=True)
        )

    def key_of(self, write: Write) -> Key:
        """The key of the row that a write is for."""
        return tuple(write[name] for name in self._table.key_names)

    def _statement(self, way: str, old_size: int) -> Any:
        statement = self._statements.get((way, old_size))
        if statement is None:
            statement = self._statements[way, old_size] = self._made(way, old_size)
        return statement

    def _made(self, way: str, old_size: int) -> Any:
        cell, stored = self._table.cell, self._table.stored
        new: ColumnElement[Any] = bindparam(NEW, type_=Binary())
        start = BuiltIn(func.substr(stored, 1, literal(old_size, Integer()), type_=Binary()))
        old: BindParameter[bytes] = bindparam(OLD, type_=Binary())
        where = [*self._rows(way), equal(start, old, self._table.dialect)]
        if way != "replace":
            behind = literal(old_size + 1, Integer())
            rest = BuiltIn(func.substr(stored, behind, type_=Binary()))
            new = Joined(new, rest)
            if self._table.dialect.name in ("mysql", "mariadb"):
                # CONCAT makes NULL of what is longer than max_allowed_packet.
                where.append(new.is_not(None))
            if self._table.bytes_at_most is not None:
                where.append(
                    BuiltIn(func.length(new, type_=Integer())) <= self._table.bytes_at_most
                )
        bare = self._table.bare
        kept: dict[Any, Any] = {bare.c[name]: bare.c[name] for name in self._table.kept}
        statement = update(bare).where(*where).values({**kept, cell: new})
        hint = self._table.hint
        return statement.with_hint(hint, bare) if hint else statement

    def _rows(self, way: str) -> list[ColumnElement[bool]]:
        if way != "at once":
            return self._table.same_key()
        (key,) = self._table.key
        return [one_of(key, _KEYS, self._table.dialect)]


def _by_header(writes: Sequence[Write]) -> tuple[list[Sequence[Write]], list[Write]]:
    """Writes with one header together, as many as a statement takes; and those that are few."""
    groups: dict[tuple[bytes, bytes], list[Write]] = {}
    for write in writes:
        groups.setdefault((write[OLD], write[NEW]), []).append(write)
    alike: list[Sequence[Write]] = []
    others: list[Write] = []
    for group in groups.values():
        if len(group) < _WORTH_A_STATEMENT:
            others += group
            continue
        starts = range(0, len(group), _ROWS_A_STATEMENT)
        alike += [group[start : start + _ROWS_A_STATEMENT] for start in starts]
    return alike, others


def _by_old_size(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    groups: dict[int, list[Write]] = {}
    for write in writes:
        groups.setdefault(len(write[OLD]), []).append(write)
    yield from groups.values()
