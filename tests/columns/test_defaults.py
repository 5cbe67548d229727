"""Defaults of encrypted columns do what they do for plain ones."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Column, Integer, String, Table, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, attach_keyrings

NONE_IS: dict[str, Any] = {
    "JSON": JSON(),
    "JSON(none_as_null)": JSON(none_as_null=True),
    "JSONB": postgresql.JSONB(),
    "text": String(20),
    "evaluating text": String(20).evaluates_none(),
}


@pytest.mark.parametrize("way", ["objects", "bulk", "bulk with nulls", "core", "left out"])
@pytest.mark.parametrize("name", NONE_IS)
def test_an_explicit_none_gives_way_to_a_default_where_it_does_without_encryption(
    database, engine, keyring, name, way
):
    """SQLAlchemy asks the type whether None is a value."""
    if name == "JSONB" and database != "postgresql":
        pytest.skip("PostgreSQL's")

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_nones"
        id = mapped_column(Integer, primary_key=True)
        plain = mapped_column(NONE_IS[name], default="d")
        wrapped = mapped_column(Encrypted(NONE_IS[name]), default="d")
        outside = mapped_column(Encrypted(String(20)).evaluates_none(), default="d")

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    row = {} if way == "left out" else {"plain": None, "wrapped": None, "outside": None}
    with Session(engine) as session:
        if way.startswith("bulk"):
            session.bulk_insert_mappings(Note, [row], render_nulls=way == "bulk with nulls")
        elif way == "core":
            session.connection().execute(insert(Note), [row])
        else:
            session.add(Note(**row))
        session.commit()
        plain, wrapped, outside = session.execute(
            select(Note.plain, Note.wrapped, Note.outside)
        ).one()
    Base.metadata.drop_all(engine)
    assert wrapped == plain
    assert outside == ("d" if way == "left out" else None)


def _actor(context: Any) -> str:
    return str(context.execution_options["actor"])


@pytest.fixture
def audited(engine, metadata, keyring):
    """A table whose defaults want an option, beside an encrypted column."""
    made = Table(
        "kmsenv_audited",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String(20))),
        Column("actor", String(20), default=_actor, onupdate=_actor),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield made
    metadata.drop_all(engine)


def test_a_default_function_sees_the_options_of_its_statement(engine, audited):
    """Of the statement and of its execution, which the connection does not have."""
    one = insert(audited).execution_options(actor="a")
    change = update(audited).where(audited.c.id == 1).values(text="u")
    rows = insert(audited).values([{"id": 3, "text": "t"}, {"id": 4, "text": "t"}])
    with engine.begin() as connection:
        connection.execute(one, {"id": 1, "text": "t"})
        connection.execute(
            insert(audited), {"id": 2, "text": "t"}, execution_options={"actor": "b"}
        )
        connection.execute(change, execution_options={"actor": "c"})
        connection.execute(rows, execution_options={"actor": "d"})
        found = connection.scalars(select(audited.c.actor).order_by(audited.c.id)).all()
        assert found == ["c", "b", "d", "d"]


def test_an_error_of_a_default_function_is_told_as_sqlalchemy_does(engine, audited):
    """But for the parameters, which hold the plaintext."""
    row = {"id": 1, "text": "secret"}
    with engine.connect() as connection, pytest.raises(StatementError, match="KeyError") as raised:
        connection.execute(insert(audited), row)
    assert isinstance(raised.value.orig, KeyError)
    assert "secret" not in str(raised.value)
