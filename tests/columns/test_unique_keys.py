"""UPDATE by a unique key that is not the primary one, and what counts as unique."""

import datetime as dt
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, UnboundValueError, attach_keyrings
from tests.columns.test_composite_keys import Guid
from tests.conftest import on

VALUES: dict[str, tuple[Any, list[Any]]] = {
    "str": (String(20), ["a", "b"]),
    "int": (Integer, [5, 6]),
    "uuid": (Uuid, [uuid.UUID(int=1), uuid.UUID(int=2)]),
    "bytes": (LargeBinary(20).with_variant(mysql.VARBINARY(20), "mysql"), [b"a", b"b"]),
    "guid": (Guid, [uuid.UUID(int=1), uuid.UUID(int=2)]),
    "date": (Date, [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
}


def runs(metadata, run_id, *others, **options):
    """A table whose rows have a number, and another name."""
    return Table(
        "kmsenv_runs",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("run_id", run_id, **{"nullable": False, **options}),
        Column("part", Integer, nullable=False, default=0),
        Column("tenant", String(10), nullable=False, default="t"),
        Column("note", Encrypted(String)),
        Column("scoped", Encrypted(String, scope=["tenant"])),
        *others,
    )


def created(table, engine, keyring, values):
    """Two rows in a new table."""
    attach_keyrings(table.metadata, default=keyring)
    table.metadata.drop_all(engine)
    table.metadata.create_all(engine)
    rows = [
        {"id": i, "run_id": value, "tenant": f"t{i}", "note": "old", "scoped": "old"}
        for i, value in enumerate(values)
    ]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    return table


def read(engine, table):
    """What the rows hold, by number."""
    with engine.connect() as connection:
        return sorted(connection.execute(select(table.c.id, table.c.note, table.c.scoped)).all())


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("how", ["constraint", "index"])
def test_a_unique_column_names_a_row(kind, how, engine, metadata, keyring):
    """Runs, tokens and slugs: applications update by what they know."""
    sqlalchemy_type, values = VALUES[kind]
    options = {"unique": True, "index": how == "index"}
    table = created(runs(metadata, sqlalchemy_type, **options), engine, keyring, values)
    named = table.c.run_id == values[1]
    with engine.begin() as connection:
        result = connection.execute(update(table).where(named).values(note="new", scoped="new"))
        assert result.rowcount == 1
    assert read(engine, table) == [(0, "old", "old"), (1, "new", "new")]


def test_many_rows_are_named_by_a_unique_key_of_several_columns(engine, metadata, keyring):
    """Core's executemany, with rows that are there and one that is not."""
    together = UniqueConstraint("run_id", "part")
    table = created(runs(metadata, String(20), together), engine, keyring, ["a", "b"])
    named = (table.c.run_id == bindparam("name")) & (table.c.part == bindparam("number"))
    rows = [{"name": name, "number": 0, "note": f"new {name}"} for name in ("b", "c", "a")]
    with engine.begin() as connection:
        connection.execute(update(table).where(named), rows)
    assert read(engine, table) == [(0, "new a", "old"), (1, "new b", "old")]


def test_null_in_a_unique_column_names_no_row(engine, metadata, keyring):
    """Several rows may hold it, and none is equal to it."""
    table = created(
        runs(metadata, String(20), nullable=True, unique=True), engine, keyring, [None, None]
    )
    with engine.begin() as connection:
        statement = update(table).where(table.c.run_id == bindparam("name"))
        connection.execute(statement, {"name": None, "note": "new"})
    assert read(engine, table) == [(0, "old", "old"), (1, "old", "old")]


@on("mariadb")
def test_a_unique_text_is_found_in_any_spelling(engine, metadata, keyring):
    """The plain UPDATE would find it as well."""
    table = created(runs(metadata, String(20), unique=True), engine, keyring, ["a", "b"])
    with engine.begin() as connection:
        connection.execute(update(table).where(table.c.run_id == "B ").values(scoped="new"))
    assert read(engine, table) == [(0, "old", "old"), (1, "old", "new")]


def test_a_uuid_text_in_another_spelling_is_found(engine, metadata, keyring, database):
    """PostgreSQL takes every spelling of a UUID; the row must not count as absent."""
    values = [str(uuid.UUID(int=171)), str(uuid.UUID(int=172))]
    table = created(runs(metadata, Uuid(as_uuid=False), unique=True), engine, keyring, values)
    given = values[1].upper() if database == "postgresql" else values[1].replace("-", "")
    with engine.begin() as connection:
        connection.execute(update(table).where(table.c.run_id == given).values(scoped="new"))
    assert read(engine, table) == [(0, "old", "old"), (1, "old", "new")]


PARTIAL: dict[str, Any] = {f"{name}_where": text("part > 0") for name in ("postgresql", "sqlite")}
NOT_UNIQUE: dict[str, Any] = {
    "nothing": lambda _: None,
    "an index": lambda table: Index("kmsenv_i", table.c.run_id),
    "with another": lambda table: Index("kmsenv_i", table.c.run_id, table.c.part, unique=True),
    "of some rows": lambda table: Index("kmsenv_i", table.c.run_id, unique=True, **PARTIAL),
    "with an expression": lambda table: Index(
        "kmsenv_i", table.c.run_id, text("(part + 1)"), unique=True
    ),
    "of an expression": lambda table: Index("kmsenv_i", table.c.run_id + table.c.part, unique=True),
}


@pytest.mark.parametrize("name", NOT_UNIQUE)
def test_what_two_rows_may_share_names_none(name, engine, database, metadata, keyring):
    """One envelope cannot be bound to both of them."""
    if database == "mariadb" and name in ("of some rows", "with an expression", "of an expression"):
        pytest.skip("MariaDB has no such index")
    table = runs(metadata, Integer)
    NOT_UNIQUE[name](table)
    created(table, engine, keyring, [1, 2])
    statement = update(table).where(table.c.run_id == 1).values(note="new")
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="unique key"):
        connection.execute(statement)
    assert read(engine, table) == [(0, "old", "old"), (1, "old", "old")]


@pytest.mark.parametrize("name", NOT_UNIQUE)
def test_what_two_rows_may_share_is_no_identity(name, keyring):
    """Values could be copied from one of them to the other."""
    metadata = MetaData()
    table = runs(metadata, Integer, Column("other", Encrypted(String, identity=["run_id"])))
    NOT_UNIQUE[name](table)
    with pytest.raises(ConfigurationError, match="are not unique"):
        attach_keyrings(metadata, default=keyring)


@pytest.mark.parametrize(
    "make",
    [
        lambda table: Index("kmsenv_i", table.c.run_id, unique=True),
        lambda table: Index("kmsenv_i", table.c.run_id.desc(), unique=True),
        lambda table: table.append_constraint(UniqueConstraint("run_id")),
    ],
)
def test_a_unique_index_of_whole_columns_is_an_identity(make, keyring):
    """In whichever order, or as a constraint."""
    metadata = MetaData()
    table = runs(metadata, Integer, Column("other", Encrypted(String, identity=["run_id"])))
    make(table)
    attach_keyrings(metadata, default=keyring)


def test_a_table_without_a_primary_key_needs_a_unique_identity(keyring):
    """No columns at all are no unique key."""
    metadata = MetaData()
    Table(
        "kmsenv_keyless",
        metadata,
        Column("name", String(9), nullable=False),
        Column("value", Encrypted(String, identity=["name"])),
    )
    with pytest.raises(ConfigurationError, match="are not unique"):
        attach_keyrings(metadata, default=keyring)
