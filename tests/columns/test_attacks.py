"""What a hostile reviewer found once, held shut."""

from __future__ import annotations

import datetime
import enum
import uuid

import pytest
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    InvalidValueError,
    KmsEnvError,
    UnboundValueError,
    attach_keyrings,
)
from tests.conftest import on


@pytest.fixture
def create(metadata, engine, keyring):
    """Make a table of the columns and of an encrypted text ``v``, on each database."""

    def create(*columns, inner=String):
        table = Table("kmsenv_attacked", metadata, *columns, Column("v", Encrypted(inner)))
        attach_keyrings(metadata, keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        return table

    return create


def test_a_key_that_the_database_replaces_is_refused(create, engine, database):
    """MySQL and MariaDB generate another key for 0."""
    table = create(Column("id", Integer, primary_key=True))
    with engine.begin() as connection:
        if database == "mariadb":
            with pytest.raises(UnboundValueError, match="given as 0"):
                connection.execute(insert(table), [{"id": 5, "v": "x"}, {"id": 0, "v": "y"}])
        else:
            connection.execute(insert(table), {"id": 0, "v": "x"})
            assert connection.scalar(select(table.c.v)) == "x"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (lambda: Column("k", Integer, nullable=False, onupdate=lambda: 1), "onupdate"),
        (lambda: Column("k", Integer, nullable=False, server_onupdate=text("x")), "onupdate"),
        (lambda: Column("k", ForeignKey("other.id", onupdate="CASCADE"), type_=Integer,
                        nullable=False), "ON UPDATE CASCADE"),
        (lambda: Column("k", ForeignKey("other.id", onupdate="set default"), type_=Integer,
                        nullable=False), "ON UPDATE SET DEFAULT"),
    ],
)  # fmt: skip
def test_a_bound_column_that_changes_by_itself_is_refused(column, words, keyring):
    """The row would be moved away from its values."""
    metadata = MetaData()
    Table("other", metadata, Column("id", Integer, primary_key=True))
    attach_keyrings(metadata, keyring)
    key = Column("id", Integer, primary_key=True)
    value: Column[str] = Column("v", Encrypted(String, scope=["k"]))
    with pytest.raises(ConfigurationError, match=words):
        Table("t", metadata, key, column(), value)


@pytest.mark.parametrize("moved", ["key", "scope"])
def test_a_stale_object_never_writes_for_another_spelling(moved, engine, database, keyring):
    """A collation may call the two spellings equal; the sealed value does not."""

    class Base(DeclarativeBase):
        pass

    inexact = CITEXT() if database == "postgresql" else String(20, collation="NOCASE")
    text_type = String(20) if database == "mariadb" else inexact

    class Row(Base):
        __tablename__ = "kmsenv_spelled"
        id: Mapped[str] = mapped_column(text_type, primary_key=True)
        tenant: Mapped[str] = mapped_column(text_type)
        v: Mapped[str] = mapped_column(Encrypted(String, scope=["tenant"]))

    if database == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS citext"))
    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            session.add(Row(id="abc", tenant="acme", v="x"))
            session.commit()
        with Session(engine, expire_on_commit=False) as stale:
            row = stale.get_one(Row, "abc")
            stale.commit()
            with Session(engine) as other:
                same = other.get_one(Row, "abc")
                if moved == "key":
                    same.id = "ABC"
                else:
                    same.tenant = "ACME"
                same.v = "y"
                other.commit()
            row.v = "z"
            with pytest.raises(StaleDataError):
                stale.commit()
        with Session(engine) as session:
            assert session.scalars(select(Row.v)).all() == ["y"]
    finally:
        Base.metadata.drop_all(engine)


class Colour(str, enum.Enum):  # noqa: UP042  the older idiom is the one that misbehaves
    """Calls itself ``Colour.RED`` where a name is asked for."""

    RED = "red"


class NotATime(datetime.datetime):
    """Behaves like ``pandas.NaT``."""

    def isoformat(self, *_):
        """Not what a datetime says."""
        return "NaT"


@pytest.mark.parametrize(
    ("inner", "value", "comes_back"),
    [
        (Enum("red", "blue", name="e"), Colour.RED, "red"),
        (DateTime(), NotATime(2020, 1, 1), None),
    ],
)
def test_a_value_of_a_subclass_comes_back_as_it_went_in_or_is_refused(
    inner, value, comes_back, create, engine
):
    """Nothing is stored that reads as something else, or not at all."""
    table = create(Column("id", Integer, primary_key=True), inner=inner)
    with engine.begin() as connection:
        if comes_back is None:
            with pytest.raises(InvalidValueError):
                connection.execute(insert(table), {"id": 1, "v": value})
        else:
            connection.execute(insert(table), {"id": 1, "v": value})
            assert connection.scalar(select(table.c.v)) == comes_back


@pytest.mark.parametrize(
    ("kind", "key", "forged"),
    [
        (Uuid, uuid.UUID(int=0xABC), "upper({id})"),
        (Uuid, uuid.UUID(int=0xABC), "{id} || ':' || v"),
        (Integer, 7, "CAST('7' AS BLOB)"),
        (Integer, 7, "x'373a' || v"),
        (Date, datetime.date(2026, 1, 2), "{id} || ' '"),
        (Date, datetime.date(2026, 1, 2), "{id} || ':' || v"),
    ],
)
@on("sqlite")
def test_sqlite_takes_anything_as_a_key_and_none_of_it_opens(kind, key, forged, *, create, engine):
    """A second row under another spelling of the key must not open a copied value."""
    # The second column of the key keeps the first from being the rowid.
    table = create(Column("id", kind, primary_key=True), Column("n", Integer, primary_key=True))
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": key, "n": 1, "v": "x"})
        expression = forged.format(id="id")
        connection.exec_driver_sql(
            f"INSERT INTO kmsenv_attacked (id, n, v) SELECT {expression}, 1, v FROM kmsenv_attacked"
        )
        assert connection.scalars(select(table.c.v).limit(1)).all() == ["x"]
        with pytest.raises(KmsEnvError):
            connection.scalars(select(table.c.v).offset(1).limit(1)).all()
