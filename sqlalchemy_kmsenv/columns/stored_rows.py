"""Reading, in the same transaction, what a row's key and scope columns hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Date,
    Integer,
    LargeBinary,
    Select,
    Uuid,
    and_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.cell import STR_PART
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.key_types import stored_types
from sqlalchemy_kmsenv.columns.own_operators import equal, equal_to_one, is_pinned
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.transactions import Options, schema_map

Key = tuple[Any, ...]

_ROWS_A_QUERY = 500
"""Far below every database's limit on parameters, with a few columns a key."""


def compares_exactly(bound: BoundColumn, dialect_name: str) -> bool:
    """Whether a value that WHERE finds equal is certain to be stored in the same spelling.

    MySQL's and MariaDB's collations ignore case or trailing blanks; so does any
    collation that is named, for all that can be seen here.
    """
    if bound.kind is not STR_PART:
        return True
    stored = stored_types(bound.column.type)
    if dialect_name in ("mysql", "mariadb") or any(isinstance(each, CITEXT) for each in stored):
        return False
    return all(getattr(each, "collation", None) is None for each in stored)


def read_stored(
    connection: Connection,
    key_columns: Sequence[Column[Any]],
    keys: Sequence[Key],
    wanted: Sequence[Column[Any]],
    options: Options,
) -> list[Key | None]:
    """The wanted columns of the row of each key, None where there is no such row.

    One query for up to 500 rows, which locks them where the database can; one
    more for each row whose key is stored in another spelling than was given.

    ``options`` are those of the statement that needs to know.

    Raises:
        UnboundValueError: a key names rows that differ in the wanted columns.
    """
    query = select(*key_columns, *wanted).with_for_update(of=key_columns[0].table)
    query = query.execution_options(**schema_map(options))
    # Each number of rows with such keys is another statement: they would crowd the
    # application's out of the cache. A connection takes this option, a statement does not.
    several_parts = len(key_columns) > 1 or is_pinned(key_columns[0], connection.dialect)
    uncached: dict[str, Any] = {"compiled_cache": None} if several_parts and len(keys) > 1 else {}
    found: dict[Key, Key] = {}
    # NULL is equal to nothing, whatever a unique column holds.
    for chunk in _chunks([key for key in keys if None not in key]):
        several = query.where(_any_of(key_columns, chunk, connection.dialect))
        for row in connection.execute(several, execution_options=uncached):
            _keep_one(found, tuple(row[: len(key_columns)]), tuple(row[len(key_columns) :]))
    # Exact keys that were not found name no row; others may come back as another value.
    if not all(map(_comes_back_equal, key_columns)):
        for key in keys:
            if key not in found and None not in key:
                by_itself = _by_itself(connection, query, key_columns, key)
                if by_itself is not None:
                    found[key] = by_itself
    return [found.get(key) for key in keys]


def _comes_back_equal(column: Column[Any]) -> bool:
    kind = column.type
    if isinstance(kind, Uuid):
        return kind.as_uuid
    return isinstance(kind, (Integer, LargeBinary, Date))


def _keep_one(found: dict[Key, Key], key: Key, values: Key) -> None:
    if found.setdefault(key, values) != values:
        raise UnboundValueError(
            "this UPDATE names several rows that belong to different scopes; nothing can be sealed"
            " for all of them. Update by primary key"
        )


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start in range(0, len(keys), _ROWS_A_QUERY):
        yield keys[start : start + _ROWS_A_QUERY]


def _any_of(columns: Sequence[Column[Any]], keys: Sequence[Key], dialect: Dialect) -> Any:
    if len(columns) == 1:
        return equal_to_one(columns[0], [key[0] for key in keys], dialect)
    return or_(*(_equal(columns, key, dialect) for key in keys))


def _equal(columns: Sequence[Column[Any]], key: Key, dialect: Dialect) -> Any:
    return and_(*(equal(c, value, dialect) for c, value in zip(columns, key, strict=True)))


def _by_itself(
    connection: Connection, query: Select[Any], columns: Sequence[Column[Any]], key: Key
) -> Key | None:
    found: dict[Key, Key] = {}
    for row in connection.execute(query.where(_equal(columns, key, connection.dialect))):
        _keep_one(found, key, tuple(row[len(columns) :]))
    return found.get(key)
