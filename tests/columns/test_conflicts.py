"""Which row an upsert finds: by names of columns, by constraints, by indexes, or by whatever is."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table, insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on

DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}


@pytest.fixture
def made(engine, keyring, metadata):
    """Makes a table of what it is given and two encrypted columns, each with its own identity."""

    def make(*things):
        table = Table(
            "kmsenv_conflicts",
            metadata,
            *things,
            Column("text", Encrypted(String)),
            Column("secret", Encrypted(String, identity=["number"])),
        )
        attach_keyrings(metadata, default=keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        old = {"id": 1, "number": 5, "text": "old text", "secret": "old secret"}
        with engine.begin() as connection:
            connection.execute(insert(table), old)
        return table

    return make


def keys(*, swapped=False, **options):
    """Two columns that each name a row; swapped, each has the name of the other one's key."""
    names = ("number", "id") if swapped else ("id", "number")
    yield Column(names[0], Integer, key="id", primary_key=True, autoincrement=False)
    yield Column(names[1], Integer, key="number", nullable=False, **options)


def rows(engine, table):
    """All that the table holds."""
    with engine.connect() as connection:
        query = select(table.c.id, table.c.number, table.c.text, table.c.secret)
        return [tuple(row) for row in connection.execute(query.order_by(table.c.id))]


OLD = (1, 5, "old text", "old secret")


def upsert(engine, statement, *, id, number, refused):  # noqa: A002
    """Execute it with one row, or see it refused."""
    row = {"id": id, "number": number, "text": "new text", "secret": "new secret"}
    if not refused:
        with engine.begin() as connection:
            connection.execute(statement, row)
        return
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="may have another"):
        connection.execute(statement, row)


@on("sqlite", "postgresql")
@pytest.mark.parametrize("key", ["id", "number"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_in_index_elements_is_a_name_of_the_database(swapped, key, database, engine, made):
    """SQLAlchemy writes it into the SQL as it is, even where another column has it as its key."""
    table = made(*keys(swapped=swapped, unique=True))
    new = DIALECTS[database].insert(table)
    given = {"id": 1, "number": 6} if key == "id" else {"id": 2, "number": 5}
    own, other = ("text", "secret") if key == "id" else ("secret", "text")
    for element in (table.c[key], table.c[key].name):
        for name, refused in [(own, False), (other, True)]:
            statement = new.on_conflict_do_update(
                index_elements=[element], set_={name: new.excluded[name]}
            )
            upsert(engine, statement, **given, refused=refused)
    expected = {"text": OLD[2], "secret": OLD[3], own: f"new {own}"}
    assert rows(engine, table) == [(1, 5, *expected.values())]


@on("sqlite", "postgresql")
@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_in_set_is_a_key_or_else_a_name(swapped, database, engine, made):
    """So SQLAlchemy reads it; what it sets is what counts."""
    table = made(*keys(swapped=swapped, unique=True))
    new = DIALECTS[database].insert(table)
    statement = new.on_conflict_do_update(
        index_elements=[table.c.id], set_={"secret": "set", "number": new.excluded.number}
    )
    upsert(engine, statement, id=1, number=6, refused=False)
    assert rows(engine, table) == [(1, 6, "old text", "set")]
