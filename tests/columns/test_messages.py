"""What a refusal says: what, where, and what to do next, which then works."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    column,
    insert,
    select,
    table,
    text,
    tuple_,
)

from sqlalchemy_kmsenv import Encrypted, EnvelopeError, UnboundValueError, attach_keyrings
from tests.conftest import on

CANARY = "canary-5c1"


@pytest.fixture
def notes(metadata, engine, keyring):
    """A table with one encrypted column."""
    notes = Table(
        "kmsenv_messages",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("plain", String(40)),
        Column("secret", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return notes


@pytest.mark.parametrize("write", [True, False])
def test_lightweight_table_of_a_migration_is_told_what_it_lacks(engine, notes, keyring, write):
    """Alembic's documentation writes data with sa.table(), which names no primary key."""
    # Of another name: where a model is known, a write is told to go through that instead.
    light = table("kmsenv_light", column("id"), column("secret", Encrypted(String)))
    statement = insert(light).values(id=1, secret=CANARY) if write else select(light)
    with engine.begin() as connection:
        with pytest.raises(UnboundValueError) as caught:
            connection.execute(statement)

        said = str(caught.value)
        for words in ("table()", "Table(...) with its primary key", "attach_keyrings"):
            assert words in said
        assert CANARY not in said

        # What it advises.
        own = MetaData()
        full = Table(
            "kmsenv_messages",
            own,
            Column("id", Integer, primary_key=True),
            Column("secret", Encrypted(String)),
        )
        attach_keyrings(own, keyring)
        connection.execute(insert(full), [{"id": 1, "secret": CANARY}])
        assert connection.scalars(select(notes.c.secret)).all() == [CANARY]


@on("sqlite")
def test_value_that_a_row_of_columns_is_compared_with_is_not_told_to_be_written(engine, notes):
    """Of a tuple() only the parameters say that a value is looked for."""
    looked_for = tuple_(notes.c.id, notes.c.secret).in_([(1, CANARY)])
    words = "To look for it, select the rows by a plain column"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words) as told:
        connection.execute(select(notes.c.id).where(looked_for))
    assert CANARY not in str(told.value)


@on("sqlite")
def test_subquery_is_named_by_its_column(notes):
    """Its SQL, over several lines, is no name."""
    subquery = select(notes.c.secret).scalar_subquery()
    with pytest.raises(UnboundValueError, match=r"^kmsenv_messages\.secret is encrypted: "):
        subquery.like("x")


@on("mariadb")
def test_cell_of_a_column_that_was_added_not_null_says_why(engine, notes, metadata, keyring):
    """ALTER TABLE gives rows that are there an empty cell, without a word."""
    with engine.begin() as connection:
        connection.execute(insert(notes), [{"id": 1, "plain": "p", "secret": "s"}])
        connection.execute(text("ALTER TABLE kmsenv_messages ADD COLUMN later LONGBLOB NOT NULL"))
    own = MetaData()
    grown = Table(
        "kmsenv_messages",
        own,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("later", Encrypted(String), nullable=False),
    )
    attach_keyrings(own, keyring)
    with engine.begin() as connection:
        with pytest.raises(EnvelopeError, match=r"later, row \(1\).* 0 bytes.*NOT NULL column"):
            connection.scalars(select(grown.c.later)).all()

        connection.execute(grown.update().where(grown.c.id == 1).values(later="l"))
        assert connection.scalars(select(grown.c.later)).all() == ["l"]
