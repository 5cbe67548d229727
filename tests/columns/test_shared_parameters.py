"""One parameter that is used in several places of a statement: only what is sealed changes."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, String, Table, bindparam, func, insert, select, update

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
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


NAMED = [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]


@pytest.mark.parametrize("rows", [NAMED[:1], NAMED])
def test_a_parameter_may_be_named_as_its_column(engine, table, rows):
    """SQLAlchemy lets the parameter that values() names stand for the column's own."""
    named = insert(table).values(id=bindparam("id"), text=bindparam("text"))
    changed = update(table).where(table.c.id == bindparam("i")).values(text=bindparam("text"))
    with engine.begin() as connection:
        connection.execute(named, rows)
        assert found(connection, table) == [(r["id"], r["text"], None, None) for r in rows]
        connection.execute(changed, [{"i": r["id"], "text": r["text"].upper()} for r in rows])
        assert found(connection, table) == [(r["id"], r["text"].upper(), None, None) for r in rows]


def test_a_parameter_may_be_named_as_another_column(engine, table):
    """Each column takes the parameter that values() names for it, and not the one of its name."""
    crossed = insert(table).values(text=bindparam("plain"), plain=bindparam("text"))
    with engine.begin() as connection:
        connection.execute(crossed, {"id": 1, "text": "shown", "plain": "sealed"})
        assert found(connection, table) == [(1, "sealed", None, "shown")]


def test_an_upsert_may_name_its_parameter_as_the_column(database, engine, table):
    """Its clause takes the value as well."""
    text = bindparam("text", type_=String())
    statement = DIALECTS[database].insert(table).values(id=bindparam("id"), text=text)
    statement = on_conflict(statement, lambda _: {"text": text, "plain": text})
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "text": "before"})
        connection.execute(statement, NAMED[0])
        assert found(connection, table) == [(1, "one", None, "one")]


def test_a_parameter_that_values_replaces_is_not_kept_in_plaintext(engine, table):
    """An error shows the parameters that a statement was executed with."""
    statement = insert(table).values(id=bindparam("id"), text=bindparam("v"))
    statement = statement.values(plain=bindparam("absent"))
    given = {"id": 1, "v": "secret", "text": "secret"}
    with engine.connect() as connection, pytest.raises(Exception, match="absent") as raised:
        connection.execute(statement, given)
    assert "secret" not in str(raised.value)


def test_a_value_in_the_statement_and_another_as_a_parameter_is_refused(engine, table):
    """Neither is what the application surely meant."""
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=r"text.*give one"):
        connection.execute(insert(table).values(text="one"), NAMED[1])
