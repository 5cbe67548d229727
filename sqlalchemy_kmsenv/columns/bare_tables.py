"""Encrypted tables and columns that are described once more, without their encrypted types.

``sa.table()`` with ``sa.column()``, the tables that pandas makes for ``to_sql()``, a Table of
another MetaData: nothing is sealed there, and a value would be stored as it is. What tells is
the name, on an engine that has created or written the table as an encrypted one. Bytes are let
through, since whoever has envelopes writes them so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnClause, Connection, Insert, LargeBinary, Table, TableClause, Update
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.columns.dml import (
    FromParameters,
    FromStatement,
    Rows,
    source_of,
    value_expressions,
)
from sqlalchemy_kmsenv.columns.outputs import is_encrypted, unlabelled
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.transactions import Options, schema_of

_Tables = dict[tuple[str | None, str], frozenset[str]]
_encrypted: WeakKeyDictionary[Dialect, _Tables] = WeakKeyDictionary()
"""By dialect, of which each engine has its own: schema and name, and the encrypted columns."""


def note_encrypted(
    connection: Connection, table: Table, names: Iterable[str], options: Options
) -> None:
    """This engine's database has the table, with these encrypted columns, which may be none."""
    encrypted = frozenset(names)
    known = _encrypted.get(connection.dialect)
    if known is None:
        if not encrypted:
            return
        known = _encrypted[connection.dialect] = {}
    place = schema_of(table, options), table.name
    if encrypted or place in known:
        known[place] = encrypted


def refuse_plaintext(
    connection: Connection, statement: Insert | Update, rows: Rows, options: Options
) -> None:
    """Refuse what would be stored as it is where an envelope belongs.

    Raises:
        UnboundValueError: a value for an encrypted column that is neither NULL nor bytes.
    """
    known = _encrypted.get(connection.dialect)
    target = statement.table
    if not known or not isinstance(target, TableClause):
        return
    schema = schema_of(target, options)
    names = known.get((schema, target.name))
    if not names:
        return
    for name, value in _values(statement, rows):
        if name in names and not isinstance(value, (bytes, bytearray, memoryview, type(None))):
            raise UnboundValueError(
                f"{target.name}.{name} is encrypted in this database, and the table that this"
                " statement names it through knows nothing of that, so that the value would be"
                f" stored as it is; write it through the table that declares {name} as Encrypted"
            )


def refuse_untyped(outputs: Iterable[Any], tables: Callable[[], Iterable[Any]]) -> None:
    """Refuse ``column("name")`` in a result where it names an encrypted column of the tables.

    Raises:
        UnboundValueError: it would be returned as it is stored.
    """
    untyped = [each for each in map(unlabelled, outputs) if _is_untyped(each)]
    if not untyped:
        return
    names = {
        str(column.name): table
        for table in tables()
        if isinstance(table, Table)
        for column in table.columns
        if is_encrypted(column)
    }
    for element in untyped:
        if element.name in names:
            table = names[element.name].name
            raise UnboundValueError(
                f"column({element.name!r}) would return {table}.{element.name} as it is stored,"
                " since it does not know that the column is encrypted; use the column of the"
                f' table, or column("{element.name}", LargeBinary) for the stored bytes'
            )


def _is_untyped(element: Any) -> bool:
    return (
        isinstance(element, ColumnClause)
        and getattr(element, "table", None) is None
        and not element.is_literal
        and not isinstance(element.type, LargeBinary)
    )


def _values(statement: Insert | Update, rows: Rows) -> Iterator[tuple[str, Any]]:
    columns: Any = statement.table.columns
    names = {column.key: str(column.name) for column in columns}
    for row in rows:
        for key, value in row.items():
            yield names.get(key, key), value
    for key, value in value_expressions(statement):
        source = source_of(value, rows)
        if isinstance(source, FromStatement):
            yield names.get(key, key), source.value
        elif isinstance(source, FromParameters):
            for row in rows:
                yield names.get(key, key), row.get(source.key)
