"""Tables whose key is only known once the database was asked."""

from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select, text
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.ext.declarative import DeferredReflection
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    EnvelopeError,
    UnboundValueError,
    attach_keyrings,
)
from tests.conftest import on

KEYS = {
    "sqlite": ("id INTEGER PRIMARY KEY", "code TEXT, n INTEGER, PRIMARY KEY (code, n)"),
    "postgresql": ("id SERIAL PRIMARY KEY", "code TEXT, n INTEGER, PRIMARY KEY (code, n)"),
    "mariadb": (
        "id INTEGER AUTO_INCREMENT PRIMARY KEY",
        "code VARCHAR(9), n INTEGER, PRIMARY KEY (code, n)",
    ),
}
BLOB = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "LONGBLOB"}


@pytest.fixture(params=[0, 1], ids=["generated key", "composite key"])
def people(request, engine, database):
    """The values of a key of a table ``people`` that only the database knows."""
    columns = f"tenant INTEGER NOT NULL, ssn {BLOB[database]}, {KEYS[database][request.param]}"
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS people"))
        connection.execute(text(f"CREATE TABLE people ({columns})"))
    yield [{}, {"code": "a", "n": 1}][request.param]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE people"))


def automapped(keyring: Any, engine: Any, first: bool) -> Any:
    """The class, with its keyrings attached before or after the database was asked."""
    base = automap_base()
    if first:
        attach_keyrings(base.metadata, default=keyring)
    members = {"__tablename__": "people", "ssn": mapped_column(Encrypted(String, scope=["tenant"]))}
    kind = type("People", (base,), members)
    base.prepare(autoload_with=engine)
    attach_keyrings(base.metadata, default=keyring)
    return kind


def deferred(keyring: Any, engine: Any, first: bool) -> Any:
    """The same with SQLAlchemy's other way."""
    base: Any = type("Base", (DeclarativeBase,), {})
    if first:
        attach_keyrings(base.metadata, default=keyring)
    reflected: Any = type("Reflected", (DeferredReflection,), {"__abstract__": True})
    members = {"__tablename__": "people", "ssn": mapped_column(Encrypted(String, scope=["tenant"]))}
    kind = type("People", (reflected, base), members)
    reflected.prepare(engine)
    attach_keyrings(base.metadata, default=keyring)
    return kind


@pytest.mark.parametrize("first", [True, False], ids=["keyrings first", "keyrings last"])
@pytest.mark.parametrize("way", [automapped, deferred])
def test_a_class_may_get_its_key_from_the_database(way, first, people, *, engine, keyring):
    """Whatever is first, the keyrings or the database."""
    kind = way(keyring, engine, first)
    with Session(engine) as session:
        session.add(kind(tenant=7, ssn="secret", **people))
        session.commit()
        assert session.scalars(select(kind.ssn)).all() == ["secret"]


def test_a_table_of_core_may_too(people, engine, keyring):
    """``autoload_with`` reads the rest of a table whose encrypted column is declared."""
    metadata = MetaData()
    attach_keyrings(metadata, default=keyring)
    table = Table("people", metadata, Column("ssn", Encrypted(String)), autoload_with=engine)
    with Session(engine) as session:
        session.execute(insert(table).values(tenant=7, ssn="secret", **people))
        assert session.scalars(select(table.c.ssn)).all() == ["secret"]


@on("sqlite")
def test_a_key_that_is_null_in_sqlite_names_no_row(engine, metadata, keyring):
    """SQLite lets NULL into a key that does not say NOT NULL."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (code TEXT PRIMARY KEY, ssn BLOB)"))
        connection.execute(text("INSERT INTO people VALUES (NULL, x'e501')"))
    attach_keyrings(metadata, default=keyring)
    table = Table("people", metadata, Column("ssn", Encrypted(String)), autoload_with=engine)
    with engine.connect() as connection:
        with pytest.raises(EnvelopeError):
            connection.scalars(select(table.c.ssn)).all()
        with pytest.raises(UnboundValueError, match=r"people\.code"):
            connection.execute(insert(table), {"code": None, "ssn": "x"})


def test_a_class_whose_key_never_comes_is_refused(keyring):
    """At the latest when it is mapped."""
    base: Any = type("Base", (DeclarativeBase,), {})
    attach_keyrings(base.metadata, default=keyring)
    table = Table("people", base.metadata, Column("ssn", Encrypted(String)))
    with pytest.raises(ConfigurationError, match="no primary key"):
        select(table.c.ssn).compile()
