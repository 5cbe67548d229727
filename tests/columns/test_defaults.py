"""Defaults of encrypted columns do what they do for plain ones."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Integer, String, insert, select
from sqlalchemy.dialects import postgresql
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
