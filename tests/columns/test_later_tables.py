"""Key and scope columns that take their type from a table that is defined later."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    insert,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, Keyring, attach_keyrings


def _memberships(metadata: MetaData) -> Table:
    return Table(
        "kmsenv_memberships",
        metadata,
        Column("person_id", ForeignKey("kmsenv_people.id"), primary_key=True),
        Column("club", ForeignKey("kmsenv_clubs.name"), nullable=False),
        Column("note", Encrypted(String, scope=["club"])),
    )


def _people_and_clubs(metadata: MetaData) -> tuple[Table, Table]:
    return (
        Table("kmsenv_people", metadata, Column("id", Integer, primary_key=True)),
        Table("kmsenv_clubs", metadata, Column("name", String(40), primary_key=True)),
    )


@pytest.mark.parametrize("attached", ["before", "between", "after"])
def test_a_key_has_the_type_of_a_table_that_comes_later(
    engine: Engine, keyring: Keyring, attached: str
) -> None:
    """SQLAlchemy gives the column its type only then."""
    metadata = MetaData()
    if attached == "before":
        attach_keyrings(metadata, default=keyring)
    table = _memberships(metadata)
    if attached == "between":
        attach_keyrings(metadata, default=keyring)
    people, clubs = _people_and_clubs(metadata)
    if attached == "after":
        attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(people).values(id=7))
        connection.execute(insert(clubs).values(name="chess"))
        connection.execute(insert(table).values(person_id=7, club="chess", note="x"))
        assert connection.execute(select(table)).all() == [(7, "chess", "x")]
    metadata.drop_all(engine)


def test_models_come_in_any_order(engine, keyring):
    """A class may be mapped before the class that its key is of."""

    class Base(DeclarativeBase):
        pass

    attach_keyrings(Base.metadata, default=keyring)

    class Passport(Base):
        __tablename__ = "kmsenv_passports"
        owner_id = mapped_column(ForeignKey("kmsenv_owners.id"), primary_key=True)
        number = mapped_column(Encrypted(String))

    class Owner(Base):
        __tablename__ = "kmsenv_owners"
        id = mapped_column(Integer, primary_key=True)

    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Owner(id=3))
        session.flush()
        session.add(Passport(owner_id=3, number="P1"))
        session.commit()
        assert session.scalars(select(Passport.number)).all() == ["P1"]
    Base.metadata.drop_all(engine)


def test_a_table_that_never_comes_is_named_when_a_value_is_written(keyring: Keyring) -> None:
    """Nothing is sealed under a key whose type nobody knows."""
    metadata = MetaData()
    table = _memberships(metadata)
    attach_keyrings(metadata, default=keyring)
    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(ConfigurationError, match="'person_id' takes its type from its foreign key"),
    ):
        connection.execute(insert(table).values(person_id=7, club="chess", note="x"))


def test_uses_of_envelopes_are_refused_when_the_key_has_its_type() -> None:
    """Whether the application creates its tables itself or not."""
    metadata = MetaData()
    Table(
        "kmsenv_passports",
        metadata,
        Column("owner_id", ForeignKey("kmsenv_owners.id"), primary_key=True),
        Column("number", Encrypted(String)),
        UniqueConstraint("number"),
    )
    Table("kmsenv_others", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(ConfigurationError, match=r"number is encrypted, and the unique constraint"):
        Table("kmsenv_owners", metadata, Column("id", Integer, primary_key=True))
