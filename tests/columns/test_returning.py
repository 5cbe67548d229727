"""RETURNING of rows whose keys the database makes: they are sealed before they come back.

On the drivers and dialects that the other tests do not run on: MariaDB's own dialects, which
have RETURNING, and asynchronous drivers.
"""

from __future__ import annotations

import asyncio
import warnings

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Uuid,
    create_engine,
    func,
    insert,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.columns.differential import both, observe
from tests.columns.test_differential import WAYS
from tests.conftest import on

RETURNING = [name for name in WAYS if name.startswith(("returning", "skipping", "core_many"))]
ASYNCHRONOUS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mariadb": "asyncmy"}


def _compare(engine: Engine, keyring, name: str) -> None:
    with both(engine, keyring, "generated") as (plain, sealed):
        expected = observe(engine, plain, WAYS[name])
        assert observe(engine, sealed, WAYS[name]) == expected


@on("mariadb")
@pytest.mark.parametrize("name", RETURNING)
def test_what_mariadb_returns_is_what_it_returns_of_plain_columns(engine, keyring, name):
    """SQLAlchemy uses RETURNING of MariaDB with its mariadb dialects."""
    own = create_engine(engine.url.set(drivername="mariadb+pymysql"))
    try:
        if "skipping" in name:
            pytest.skip("INSERT IGNORE has a test of its own below")
        _compare(own, keyring, name)
    finally:
        own.dispose()


@pytest.mark.parametrize("name", RETURNING)
def test_an_asynchronous_driver_returns_what_it_returns_of_plain_columns(
    database, engine, keyring, name
):
    """Keys and cells come from other cursors there."""
    driver = ASYNCHRONOUS[database]
    pytest.importorskip(driver)

    async def run() -> None:
        own = create_async_engine(engine.url.set(drivername=f"{_dialect(database)}+{driver}"))
        try:
            async with own.connect() as connection:
                await connection.run_sync(lambda held: _compare(held.engine, keyring, name))
        finally:
            await own.dispose()

    asyncio.run(run())


def _dialect(database: str) -> str:
    return "mysql" if database == "mariadb" else database


@pytest.fixture
def table(engine, metadata, keyring):
    """A table whose keys the database makes."""
    made = Table(
        "kmsenv_returned",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(20), unique=True),
        Column("tenant", SmallInteger, default=1, nullable=False),
        Column("text", Encrypted(String)),
        Column("scoped", Encrypted(String, scope=["tenant"])),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return made


@on("sqlite")
@pytest.mark.parametrize("expression", [func.length, lambda c: type_coerce(c, LargeBinary)])
def test_an_expression_over_a_cell_that_is_still_empty_is_refused(engine, table, expression):
    """It would be computed before the value is sealed."""
    statement = insert(table).values(text="x").returning(expression(table.c.text).label("e"))
    with engine.connect() as connection:
        with pytest.raises(UnboundValueError):
            connection.execute(statement)
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
        connection.execute(insert(table).values(text="y"))
        connection.commit()
        assert connection.scalars(select(table.c.text)).all() == ["y"]


@on("postgresql")
def test_keys_that_cannot_be_taken_ahead_have_to_be_returned(engine, metadata, keyring):
    """GENERATED ALWAYS: PostgreSQL takes no key, and its driver does not say the last one."""
    always = Table(
        "kmsenv_returned_always",
        metadata,
        Column("id", Integer, Identity(always=True), primary_key=True),
        Column("name", String(20)),
        Column("text", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    rows = [{"name": f"n{i}", "text": f"t{i}"} for i in range(3)]
    with engine.begin() as connection:
        one = insert(always).values(rows[0])
        with pytest.raises(UnboundValueError, match=r"add it to returning\(\)"):
            connection.execute(one.returning(always.c.name))
        assert connection.execute(one.returning(always.c.text, always.c.id)).one().text == "t0"
        found = connection.execute(insert(always).returning(always.c.name, always.c.text), rows)
        assert [tuple(row) for row in found] == [("n0", "t0"), ("n1", "t1"), ("n2", "t2")]
        assert connection.scalars(select(always.c.text)).all() == ["t0", "t0", "t1", "t2"]


@on("sqlite")
def test_a_key_made_by_a_server_default_is_returned(engine, metadata, keyring):
    """Not an autoincrement: no last key is known."""
    made = Table(
        "kmsenv_returned_uuid",
        metadata,
        Column("id", Uuid, primary_key=True, server_default=text("(lower(hex(randomblob(16))))")),
        Column("text", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        key, value = connection.execute(
            insert(made).values(text="x").returning(made.c.id, made.c.text)
        ).one()
        assert value == "x"
        assert connection.execute(select(made.c.text).where(made.c.id == key)).scalar() == "x"


@on("mariadb")
def test_insert_ignore_seals_for_the_row_as_it_was_stored(engine, table):
    """The database may take the largest scope that fits, and makes the key itself."""
    own = create_engine(engine.url.set(drivername="mariadb+pymysql"))
    for each in (engine, own):
        statement = insert(table).prefix_with("IGNORE")
        row = {"name": each.url.drivername, "tenant": 70_000, "text": "x", "scoped": "s"}
        with warnings.catch_warnings(), each.begin() as connection:
            warnings.simplefilter("ignore")
            assert connection.execute(statement, row).rowcount == 1
            assert connection.execute(statement, row).rowcount == 0
            with pytest.raises(UnboundValueError, match="one by one"):
                connection.execute(statement, [row, row])
    with own.begin() as connection:
        again = insert(table).prefix_with("IGNORE").returning(table.c.text)
        assert connection.scalars(again, {**row, "name": "new", "tenant": 2}).all() == ["x"]
        assert connection.scalars(again, {**row, "name": "new"}).all() == []
        found = connection.execute(select(table.c.tenant, table.c.text, table.c.scoped))
        assert found.all() == [(32_767, "x", "s"), (32_767, "x", "s"), (2, "x", "s")]
    own.dispose()


@on("sqlite")
def test_or_replace_seals_for_the_new_row(engine, table):
    """The row that is there goes, with its key."""
    with engine.begin() as connection:
        connection.execute(insert(table), [{"name": "a", "text": "old"}])
        statement = insert(table).prefix_with("OR REPLACE")
        connection.execute(statement, [{"name": "a", "text": "new"}, {"name": "b", "text": "b"}])
        assert connection.scalars(select(table.c.text)).all() == ["new", "b"]


@on("sqlite")
def test_a_refused_insert_of_many_can_be_rolled_back_to(engine, table):
    """And a failure in the middle leaves nothing that could be committed unsealed."""
    skip = sqlite.insert(table).on_conflict_do_nothing().returning(table.c.text)
    with Session(engine) as session:
        session.execute(insert(table), [{"name": "a", "text": "a"}])
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(
                insert(table).returning(table.c.text), [{"name": n, "text": n} for n in "xaz"]
            )
        rows = [{"name": name, "text": name} for name in "abc"]
        assert session.scalars(skip, rows).all() == ["b", "c"]
        session.commit()
        assert session.scalars(select(table.c.text)).all() == ["a", "b", "c"]


@on("sqlite")
def test_a_key_that_is_marked_as_a_sentinel_is_refused_in_words(engine, metadata, keyring):
    """SQLAlchemy sorts no rows by such a key on SQLite, and says so after the fact."""
    made = Table(
        "kmsenv_returned_sentinel",
        metadata,
        Column("id", Integer, primary_key=True, insert_sentinel=True),
        Column("text", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        with pytest.raises(UnboundValueError, match="insert_sentinel=True"):
            connection.execute(insert(made), [{"text": "x"}, {"text": "y"}])
        connection.execute(insert(made), [{"text": "x"}])
        connection.execute(insert(made), [{"id": 7, "text": "y"}, {"id": 8, "text": "z"}])
        assert connection.scalars(select(made.c.text)).all() == ["x", "y", "z"]


@on("mariadb")
@pytest.mark.parametrize("name", ["objects", "core_one", "bulk_statement", "changed_objects"])
def test_mysql_connector_says_whether_a_transaction_is_open(engine, keyring, name):
    """Its connections have ``in_transaction``, and no ``isolation_level``."""
    pytest.importorskip("mysql.connector")
    own = create_engine(engine.url.set(drivername="mysql+mysqlconnector"))
    try:
        _compare(own, keyring, name)
    finally:
        own.dispose()
