"""A table that is described once more, without its encrypted types, takes no plaintext."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    column,
    insert,
    select,
    table,
    type_coerce,
    update,
)
from sqlalchemy import bindparam as bind

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings


@pytest.fixture
def notes(engine, metadata, keyring):
    """The table as the application declares it."""
    made = Table(
        "kmsenv_described",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20)),
        Column("text", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return made


def _descriptions():
    """As an ad-hoc query, pandas, and a second MetaData describe it."""
    bare = table("kmsenv_described", column("id"), column("name"), column("text"))
    other = Table(
        "kmsenv_described",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(20)),
        Column("text", String(200)),
    )
    return [bare, other]


def test_a_table_that_is_created_anew_without_encryption_takes_plaintext(engine, notes):
    """A model that is not encrypted any more, or that another test declares under the same name."""
    notes.metadata.drop_all(engine)
    metadata = MetaData()
    plain = Table(
        notes.name, metadata, Column("id", Integer, primary_key=True), Column("text", String(200))
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(plain), {"id": 1, "text": "plain"})
        assert connection.scalar(select(plain.c.text)) == "plain"


@pytest.mark.parametrize("place", [0, 1])
def test_no_plaintext_is_written_through_another_description(engine, notes, place):
    """``DataFrame.to_sql()`` makes a table of its own, and appends to the one that is there."""
    target = _descriptions()[place]
    row = {"id": 1, "text": "canary"}
    writes = [
        (insert(target), row),
        (insert(target), [row, {"id": 2, "text": "canary"}]),
        (insert(target).values(row), None),
        (insert(target).values([row]), None),
        (update(target).values(text="canary"), None),
        (update(target).values(text=bind("p")), {"p": "canary"}),
    ]
    with engine.begin() as connection:
        connection.execute(insert(notes), [{"id": 7, "text": "sealed"}])
        for statement, parameters in writes:
            with pytest.raises(UnboundValueError, match="stored as it is") as caught:
                connection.execute(statement, parameters)
            assert "canary" not in str(caught.value)
        connection.execute(insert(target), [{"id": 3, "name": "plain"}])
        connection.execute(update(target).where(target.c.id == 7).values(name="other"))
        found = connection.execute(select(notes.c.name, notes.c.text).order_by(notes.c.id))
        assert found.all() == [("plain", None), ("other", "sealed")]


def test_envelopes_are_written_through_another_description(engine, notes):
    """Tools that move stored bytes have nothing to seal."""
    bare = table("kmsenv_described", column("id"), column("text", LargeBinary))
    with engine.begin() as connection:
        connection.execute(insert(notes), [{"id": 7, "text": "sealed"}])
        raw = connection.execute(select(type_coerce(notes.c.text, LargeBinary))).scalar_one()
        connection.execute(update(notes).values(text=None))
        connection.execute(update(bare).where(bare.c.id == 7).values(text=bytes(raw)))
        assert connection.scalars(select(notes.c.text)).all() == ["sealed"]


def test_an_untyped_column_returns_no_envelope(engine, notes, database):
    """Helpers of CRUD packages return ``column(name)`` for each name that is asked for."""
    untyped: list[Any] = [column("id"), column("text").label("t")]
    statements: list[Any] = [select(*untyped).select_from(notes)]
    if database != "mariadb":
        statements.append(insert(notes).values(id=8, text="x").returning(*untyped))
    with engine.begin() as connection:
        connection.execute(insert(notes), [{"id": 7, "text": "sealed"}])
        for statement in statements:
            with pytest.raises(UnboundValueError, match="as it is stored"):
                connection.execute(statement)
        raw: Any = select(column("text", LargeBinary), column("name")).select_from(notes)
        assert connection.execute(raw).one().text.startswith(b"\xe5")
