"""INSERTs and UPDATEs of rarer kinds: what of them can be sealed, and what is not looked at."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    String,
    Table,
    bindparam,
    column,
    event,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on


@pytest.fixture
def notes(engine, metadata, keyring):
    """Notes with a default, bound to a key that is given and to a scope."""
    table = Table(
        "kmsenv_kinds",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tenant", String(9), nullable=False, default="t"),
        Column("plain", String(20)),
        Column("note", Encrypted(String), default="default"),
        Column("scoped", Encrypted(String, scope=["tenant"])),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


@pytest.mark.parametrize("includes", [True, False])
def test_a_default_fills_no_rows_of_a_select(includes, engine, notes):
    """One envelope would stand in every row; without the default they are NULL."""
    rows = select(literal(7), literal("t"), literal("p"))
    statement = insert(notes).from_select(
        ["id", "tenant", "plain"], rows, include_defaults=includes
    )
    with engine.begin() as connection:
        if includes:
            with pytest.raises(UnboundValueError, match=r"would fill kmsenv_kinds\.note with its"):
                connection.execute(statement)
            return
        connection.execute(statement)
        assert connection.execute(select(notes.c.plain, notes.c.note)).all() == [("p", None)]


@pytest.mark.parametrize("sealed", [True, False])
def test_an_insert_may_ignore_rows_where_that_changes_no_key(sealed, database, engine, notes):
    """SQLite leaves such a row out; MySQL and MariaDB may give it another key."""
    if database == "postgresql":
        pytest.skip("PostgreSQL has ON CONFLICT DO NOTHING alone")
    statement = insert(notes).prefix_with("OR IGNORE" if database == "sqlite" else "IGNORE")
    row = {"id": 7, "plain": "p", "note": "n" if sealed else None}
    refused = sealed and database == "mariadb"
    with engine.begin() as connection:
        for _ in range(2):
            if refused:
                with pytest.raises(UnboundValueError, match="INSERT IGNORE into kmsenv_kinds"):
                    connection.execute(statement, row)
            else:
                connection.execute(statement, row)
        found = connection.execute(select(notes.c.id, notes.c.note)).all()
    assert found == ([] if refused else [(7, row["note"])])


@on("sqlite", "mariadb")
def test_an_insert_of_an_unknown_kind_gives_its_key(database, engine, notes):
    """It may replace a row, and does not say which it made."""
    statement = insert(notes).prefix_with("/* kind */")
    with engine.begin() as connection:
        with pytest.raises(UnboundValueError, match="may change or replace rows does not say"):
            connection.execute(statement, {"note": "n"})
        connection.execute(statement, {"id": 7, "note": "n"})
        assert connection.scalars(select(notes.c.note)).all() == ["n"]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("written", ["note", "tenant", "id"])
def test_an_alias_is_not_updated_by_parameters_either(written, many, engine, notes):
    """Nothing can be sealed there, and no row may move away from its values."""
    row = {written: 9 if written == "id" else "x"}
    statement = update(notes.alias("other"))
    words = rf"writes kmsenv_kinds\.{written} through"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(statement, [row, row] if many else row)


def test_a_column_may_be_named_without_its_table(engine, notes):
    """``column()`` in values() is found by its name, whether it is encrypted or not."""
    with engine.begin() as connection:
        given: Any = {notes.c.id: 1, column("note"): "old", column("plain"): "p"}
        connection.execute(insert(notes).values(given))
        changed: Any = {column("note"): "new", column("plain"): "q"}
        connection.execute(update(notes).where(notes.c.id == 1).values(changed))
        assert connection.execute(select(notes.c.note, notes.c.plain)).all() == [("new", "q")]


def test_a_value_in_a_place_that_names_no_row_is_told_where_it_belongs(engine, notes):
    """Of a column of a table: which one, and how to write it."""
    place = func.length(bindparam("x", type_=notes.c.note.type)) > 1
    words = r"kmsenv_kinds\.note is encrypted, and this statement gives a value for it in a place"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words) as caught:
        connection.execute(select(notes.c.id).where(place), {"x": "canary"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("statement", ["insert", "update", "delete", "text"])
def test_an_engine_that_marks_refusals_executes_what_returns_no_rows(statement, engine, notes):
    """The option is often set for all statements at once."""
    marking = engine.execution_options(kmsenv_on_refusal="mark")
    statements: dict[str, Any] = {
        "insert": insert(notes).values(id=2, note="b"),
        "update": update(notes).where(notes.c.id == 1).values(note="c"),
        "delete": notes.delete().where(notes.c.id == 1),
        "text": text("DELETE FROM kmsenv_kinds"),
    }
    with marking.begin() as connection:
        connection.execute(insert(notes), {"id": 1, "note": "a"})
        connection.execute(statements[statement])
        expected = {"insert": ["a", "b"], "update": ["c"], "delete": [], "text": []}[statement]
        query = select(notes.c.note).order_by(notes.c.id)
        assert connection.scalars(query).all() == expected


@on("postgresql")
def test_a_default_in_sql_is_asked_of_no_sequence(engine, metadata, keyring):
    """A key that a function of the database makes is learnt from the INSERT."""
    table = Table(
        "kmsenv_sql_default",
        metadata,
        Column("id", Integer, primary_key=True, default=func.abs(-42), autoincrement=False),
        Column("note", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    with engine.begin() as connection:
        # The column has a sequence in the database, which the model says nothing of.
        connection.execute(
            text("CREATE TABLE kmsenv_sql_default (id SERIAL PRIMARY KEY, note BYTEA)")
        )
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
        connection.execute(insert(table), {"note": "n"})
        assert not any("nextval" in each for each in sent)
        assert connection.execute(select(table.c.id, table.c.note)).all() == [(42, "n")]


def test_from_statement_goes_by_the_column_before_its_name(engine, keyring):
    """Another column may be labelled as the encrypted one is called."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_kinds_orm"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        plain = mapped_column(String(20))
        note = mapped_column(Encrypted(String))

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Note(id=1, plain="p", note="n"))
        session.commit()
        labelled = select(Note.id, Note.note.label("n"), literal("x").label("note"))
        loaded = session.scalars(select(Note).from_statement(labelled)).one()
        assert loaded.note == "n"
        session.expunge_all()
        bad = select(Note.id, literal("x").label("note"))
        with pytest.raises(UnboundValueError, match="would fill it with what is stored"):
            session.scalars(select(Note).from_statement(bad)).all()
    Base.metadata.drop_all(engine)


@on("sqlite", "postgresql")
@pytest.mark.parametrize("rows", [2, 3])
def test_an_upsert_of_rows_gives_each_an_envelope_of_its_own(
    rows, database, engine, metadata, keyring
):
    """One value for all of them, or one each; bound to the row, or to the column alone."""
    table = Table(
        "kmsenv_upserted",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String)),
        Column("loose", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    new = {"sqlite": sqlite, "postgresql": postgresql}[database].insert(table)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n} for n in range(rows)])
        for name in ("text", "loose"):
            one = new.on_conflict_do_update(index_elements=["id"], set_={name: "all"})
            connection.execute(one, [{"id": n, name: f"new {n}"} for n in range(rows)])
            query = select(table.c[name]).order_by(table.c.id)
            assert connection.scalars(query).all() == ["all"] * rows
            each = new.on_conflict_do_update(index_elements=["id"], set_={name: bindparam("own")})
            given = [{"id": n, name: f"new {n}", "own": f"own {n}"} for n in range(rows)]
            connection.execute(each, given)
            assert connection.scalars(query).all() == [f"own {n}" for n in range(rows)]


@pytest.mark.parametrize("shape", ["moved", "mixed"])
def test_a_union_keeps_each_value_beside_its_row(shape, engine, notes):
    """What names the row stands in one place, and a value in a column of its own."""
    first = select(notes.c.id, notes.c.note, func.length(notes.c.plain).label("n"))
    again = notes.alias()
    if shape == "moved":
        other = select(func.length(again.c.plain), again.c.note, again.c.id)
        words = r"kmsenv_kinds\.note"
    else:
        other = select(again.c.id, again.c.plain, again.c.id)
        words = r"kmsenv_kinds\.note is encrypted, and UNION ALL mixes it with plain"
    rows = union_all(first, other).subquery()
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(select(rows.c.note))


def test_an_update_binds_no_value_to_null(engine, notes):
    """It says which column is None."""
    statement = update(notes).where(notes.c.id == 1).values(tenant=None, scoped="x")
    words = r"kmsenv_kinds\.tenant is None in this UPDATE"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(statement)
