"""One parameter that is used in several places of a statement: only what is sealed changes."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, String, Table, bindparam, func, insert, select, update

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from tests.columns.shapes import on_conflict
from tests.columns.test_upserts import DIALECTS

ROWS = [{"i": 1, "v": "one"}, {"i": 2, "v": "two"}]


@pytest.fixture
def table(engine, metadata, keyring):
    """Two encrypted columns and a plain one."""
    made = Table(
        "kmsenv_shared",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String(20))),
        Column("other", Encrypted(String(20))),
        Column("plain", String(20)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield made
    metadata.drop_all(engine)


def found(connection, table: Table) -> list[tuple[object, ...]]:
    """Every row, by its key."""
    return [tuple(row) for row in connection.execute(select(table).order_by(table.c.id))]


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS], ids=["one", "many"])
def test_an_insert_gives_one_value_to_several_columns(engine, table, rows):
    """The plain column does not get the envelope, nor the other one that of the first."""
    v = bindparam("v", type_=String())
    statement = insert(table).values(id=bindparam("i"), text=v, other=v, plain=v)
    with engine.begin() as connection:
        result = connection.execute(statement, rows if len(rows) > 1 else rows[0])
        wanted = [(row["i"], row["v"], row["v"], row["v"]) for row in rows]
        assert found(connection, table) == wanted
        if len(rows) == 1:
            assert result.last_inserted_params() == rows[0]


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS], ids=["one", "many"])
def test_an_update_sets_and_compares_with_one_value(engine, table, rows):
    """WHERE does not compare with the envelope."""
    v = bindparam("v", type_=String())
    named = table.c.id == bindparam("i")
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": r["i"], "plain": r["v"]} for r in rows])
        connection.execute(update(table).where(named, table.c.plain == v).values(text=v), rows)
        upper = update(table).where(named).values(other=v, plain=func.upper(v))
        connection.execute(upper, rows)
        wanted = [(r["i"], r["v"], r["v"], r["v"].upper()) for r in rows]
        assert found(connection, table) == wanted


def test_an_upsert_sets_what_it_inserts(database, engine, table):
    """Its clause takes the value as well."""
    v = bindparam("v", type_=String())
    statement = DIALECTS[database].insert(table).values(id=bindparam("i"), text=v)
    statement = on_conflict(statement, lambda _: {"text": v, "plain": v})
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "text": "before"})
        connection.execute(statement, ROWS[0])
        assert found(connection, table) == [(1, "one", None, "one")]


def test_what_is_sealed_under_another_name_is_not_kept_in_plaintext(engine, table):
    """An error shows the parameters that a statement was executed with."""
    statement = insert(table).values(id=bindparam("i"), text=bindparam("v"))
    with engine.connect() as connection, pytest.raises(Exception, match="i") as raised:
        connection.execute(statement.values(plain=bindparam("absent")), {"i": 1, "v": "secret"})
    assert "secret" not in str(raised.value)
