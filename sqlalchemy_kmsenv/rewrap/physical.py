"""What the database itself says of a table's columns, whatever the model says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnClause,
    Engine,
    Enum,
    Float,
    Label,
    String,
    TableClause,
    inspect,
    literal,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlalchemy_kmsenv.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Physical:
    """One column as the database has it."""

    type_name: str
    """In lower case, as the database's catalogue names it."""
    set_on_update: bool = False
    """Whether it has ``ON UPDATE CURRENT_TIMESTAMP``."""
    bytes_at_most: int | None = None
    """None where there is no limit that a value could reach."""
    primary: bool = False
    """Whether it is part of MySQL's or MariaDB's index PRIMARY."""


KeyColumn = ColumnClause[Any] | Label[Any]
"""A key column in the type by which jobs read and compare it."""

Columns = dict[str, Physical]
"""By name; none on SQLite, where the type of a column binds no value."""


def physical_columns(engine: Engine, name: str, schema: str | None) -> Columns:
    """The columns of a table that is there; none of one that is not."""
    if engine.dialect.name in ("mysql", "mariadb"):
        with engine.connect() as connection:
            rows = connection.execute(_MYSQL, {"name": name, "schema": schema}).all()
        return {
            str(row[0]): Physical(
                str(row[1]).lower(), bool(row[2]), _limit(row[3]), row[4] == "PRI"
            )
            for row in rows
        }
    if engine.dialect.name == "postgresql":
        quote = engine.dialect.identifier_preparer.quote_identifier
        whole = ".".join(quote(part) for part in (schema, name) if part)
        with engine.connect() as connection:
            rows = connection.execute(_POSTGRESQL, {"name": whole}).all()
        return {str(row[0]): Physical(str(row[1])) for row in rows}
    return {}


def check_key(engine: Engine, keys: Iterable[Column[Any]], columns: Columns) -> None:
    """Refuse keys in whose order pages would skip or repeat rows.

    Raises:
        ConfigurationError: one is such a key.
    """
    by_name = {name.lower(): found for name, found in columns.items()}
    for key in keys:
        found = by_name.get(key.name.lower())
        why = _unfit(implementation(engine, key.type), found.type_name if found else "")
        if why:
            raise ConfigurationError(f"{key.table.name}.{key.name}: {why}")


def key_column(engine: Engine, stored: ColumnClause[Any]) -> KeyColumn:
    """A column of a key, in a type whose values are those of the database.

    What an application makes of them (a TypeDecorator, members of an Enum) can be kept in
    no checkpoint, and need not be what the database orders by.
    """
    found = implementation(engine, stored.type)
    if isinstance(found, Enum):
        labels = Enum(*found.enums, name=found.name, schema=found.schema)
        found = labels if engine.dialect.name == "postgresql" and found.native_enum else String()
    elif not isinstance(stored.type, TypeDecorator):
        return stored
    return type_coerce(stored, found).label(stored.name)


def check_no_null(engine: Engine, bare: TableClause, keys: Sequence[KeyColumn]) -> None:
    """Refuse a table with NULL in its primary key, which SQLite alone allows.

    Raises:
        ConfigurationError: there is such a row.
    """
    if engine.dialect.name != "sqlite" or not inspect(engine).has_table(bare.name, bare.schema):
        return
    declared = inspect(engine).get_columns(bare.name, bare.schema)
    nullable = {str(each["name"]).lower() for each in declared if each["nullable"]}
    open_to_it = [key.is_(None) for key in keys if key.name.lower() in nullable]
    if not open_to_it:
        return
    query = select(literal(1)).select_from(bare).where(or_(*open_to_it)).limit(1)
    with engine.connect() as connection:
        if connection.scalar(query) is not None:
            raise null_in_key(bare.name)


def null_in_key(table_name: str) -> ConfigurationError:
    """What to raise for a row that pages cannot pass."""
    return ConfigurationError(
        f"{table_name}: the table has a row with NULL in its primary key, which no comparison finds"
        " again, so a job would leave rows out; give the row a key or delete it, and declare the"
        " key NOT NULL"
    )


def _unfit(model: TypeEngine[Any], stored: str) -> str | None:
    if stored in ("enum", "set"):
        return (
            f"the database orders a key of the type {stored.upper()} by the place of its values in"
            " the declaration, but compares it with a value as text, so a job would skip rows;"
            " make the column a VARCHAR, or the table another primary key"
        )
    if stored in _FLOATS or isinstance(model, Float):
        return (
            "a floating point key comes back rounded, so a job could not find its place again and"
            " would read rows twice; make the column an integer or a NUMERIC"
        )
    if stored == "citext" and model.__visit_name__ != "CITEXT":
        return (
            "the database orders a citext key without regard to case, but compares it with what"
            " the model sends as text with regard to case, so a job would skip rows; declare the"
            " column as CITEXT (sqlalchemy.dialects.postgresql) in the model"
        )
    return None


_FLOATS = ("float", "double", "float4", "float8")


def implementation(engine: Engine, declared: TypeEngine[Any]) -> TypeEngine[Any]:
    """What a type is on a database, without what an application makes of its values."""
    found = declared.dialect_impl(engine.dialect)
    while isinstance(found, TypeDecorator):
        found = found.impl_instance
    return found


def _limit(octets: Any) -> int | None:
    # A LONGBLOB takes more than a packet does.
    return None if octets is None or int(octets) >= _LONGBLOB else int(octets)


_LONGBLOB = (1 << 32) - 1

_MYSQL = text(
    "SELECT column_name, data_type, lower(extra) LIKE '%on update%', character_octet_length,"
    " column_key"
    " FROM information_schema.columns"
    " WHERE table_name = :name AND table_schema = coalesce(:schema, database())"
)

_POSTGRESQL = text(
    "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a"
    " JOIN pg_catalog.pg_type d ON d.oid OPERATOR(pg_catalog.=) a.atttypid"
    # What a domain is of.
    " JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=)"
    " CASE WHEN d.typbasetype OPERATOR(pg_catalog.=) 0 THEN d.oid ELSE d.typbasetype END"
    " WHERE a.attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(:name)"
    " AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"
)
