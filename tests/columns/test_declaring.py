"""What a declaration may not say, beside what ``test_refusals`` has."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Column,
    Date,
    FetchedValue,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    InvalidValueError,
    attach_keyrings,
)


@pytest.mark.parametrize("name", ["v", ".v", "t.", ".", "", "s.t."])
def test_a_logical_name_has_a_table_and_a_column(name):
    """Either would be missing from what values are bound to."""
    with pytest.raises(ConfigurationError, match=r'takes a logical "table\.column"'):
        Encrypted(String, name=name)


def test_keyrings_are_attached_to_a_metadata(keyring):
    """Not to the class that has one, which is what most applications have at hand."""

    class Base(DeclarativeBase):
        pass

    given: Any = Base
    with pytest.raises(ConfigurationError, match=r"takes a MetaData such as Base\.metadata, got"):
        attach_keyrings(given, keyring)


@pytest.mark.parametrize("option", ["server_default", "server_onupdate"])
def test_the_database_gives_an_encrypted_column_no_value(option):
    """On an INSERT, or on an UPDATE: it would be plaintext."""
    options: Any = {option: FetchedValue()}
    with pytest.raises(ConfigurationError, match="would store plaintext"):
        Table(
            "t",
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("v", Encrypted(String), **options),
        )


def test_a_key_is_of_one_kind_on_every_database_that_it_names():
    """Also on one that this library is not tested with."""
    with pytest.raises(ConfigurationError, match="of one kind on every database"):
        Table(
            "t",
            MetaData(),
            Column("id", Integer().with_variant(String(20), "oracle"), primary_key=True),
            Column("v", Encrypted(String)),
        )


class OnlyText(TypeDecorator[str]):
    """A UUID of PostgreSQL's own, and elsewhere text; it knows nothing of UUID objects."""

    impl = CHAR(36)
    cache_ok = True

    def load_dialect_impl(self, dialect):
        """The type of each database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(CHAR(36))

    def process_bind_param(self, value, dialect):
        """What is stored."""
        return None if value is None else value.lower()


@pytest.mark.parametrize("key", [OnlyText(), String(40), CHAR(40)])
def test_a_text_that_is_a_key_is_stored_as_it_is(key, engine, metadata, keyring):
    """A decorator that takes text alone is asked for nothing else; blanks count but in CHAR."""
    table = Table(
        "kmsenv_text_keys",
        metadata,
        Column("id", key, primary_key=True),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    name = "0B7A0E32-8b70-4ad5-9d6c-1c1f1f1f1f1f"
    if type(key) is String and engine.dialect.name != "mysql":
        name += "  "
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": name, "v": "old"})
        connection.execute(update(table).where(table.c.id == name).values(v="new"))
        assert connection.scalars(select(table.c.v)).all() == ["new"]


def test_a_value_may_be_longer_than_64_kib(engine, metadata, keyring):
    """MySQL and MariaDB cut a BLOB there, or refuse what is longer."""
    table = Table(
        "kmsenv_long",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "v": "x" * 70_000})
        assert connection.scalar(select(table.c.v)) == "x" * 70_000


def test_a_date_is_not_made_of_a_time(engine, metadata, keyring):
    """It would lose its hour; the words name the type that was given."""
    table = Table(
        "kmsenv_dates",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("day", Encrypted(Date)),
    )
    attach_keyrings(metadata, keyring)
    metadata.create_all(engine)
    given = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    words = r"kmsenv_dates\.day cannot hold a value of Python type datetime\.datetime"
    with engine.connect() as connection, pytest.raises(InvalidValueError, match=words):
        connection.execute(insert(table), {"id": 1, "day": given})
