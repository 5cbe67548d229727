"""What an execution tells of itself, next to the same one with plain columns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    String,
    Table,
    bindparam,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, registry

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on

KINDS = ("plain", "sealed")


@pytest.fixture
def tables(engine, metadata, keyring):
    """Two tables alike, one of them encrypted, with defaults and a generated key."""
    tables = SimpleNamespace()
    for kind in KINDS:

        def of(length, encrypts=kind == "sealed"):
            return Encrypted(String(length)) if encrypts else String(length)

        table = Table(
            f"kmsenv_told_{kind}",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("text", of(40)),
            Column("state", of(20), default="new", onupdate="changed"),
            Column("tag", String(20), default=lambda: "tag", onupdate="later"),
            Column("plain", String(20)),
        )
        setattr(tables, kind, table)
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return tables


def shown(value: Any) -> Any:
    """Columns by their keys."""
    if isinstance(value, Column):
        return value.key
    if isinstance(value, dict):
        # PostgreSQL's keys are taken ahead, and given.
        return {str(key): each for key, each in value.items() if key != "id"}
    return [shown(each) for each in value] if isinstance(value, (list, tuple)) else value


TELLS: dict[str, Any] = {
    "rows": lambda result: [tuple(row) for row in result] if result.returns_rows else [],
    "parameters": lambda result: (
        result.last_inserted_params() if result.context.isinsert else result.last_updated_params()
    ),
    "prefetched": lambda result: sorted(
        {each.key.partition("_m")[0] for each in result.prefetch_cols()}
    ),
    "postfetched": lambda result: sorted(each.key for each in result.postfetch_cols()),
    "key": lambda result: result.inserted_primary_key,
    "keys": lambda result: result.inserted_primary_key_rows,
    "defaults": lambda result: _tuples(result.returned_defaults_rows),
    "has rows": lambda result: result.returns_rows,
    "rowcount": lambda result: result.rowcount,
}


def _tuples(rows):
    return rows and [tuple(row) for row in rows]


def told(result):
    """What a result tells, or the kind of error that it tells instead."""
    found = {}
    for name, ask in TELLS.items():
        try:
            found[name] = shown(ask(result))
        except SQLAlchemyError as error:
            found[name] = type(error).__name__
    return found


ROWS = [{"text": f"text {n}", "plain": f"plain {n}"} for n in range(3)]
KEYED = [{"id": n + 5, **row} for n, row in enumerate(ROWS)]
EXECUTIONS: dict[str, Any] = {
    "values": lambda t: (insert(t).values(**ROWS[0]), None),
    "values with a key": lambda t: (insert(t).values(**KEYED[0]), None),
    "values without a default": lambda t: (insert(t).values(KEYED[0] | {"state": "s"}), None),
    "a row": lambda t: (insert(t), ROWS[0]),
    "a row with a key": lambda t: (insert(t), KEYED[0]),
    "rows with keys": lambda t: (insert(t), KEYED),
    "rows in values": lambda t: (insert(t).values(KEYED), None),
    "rows in values, one with a default's value": lambda t: (
        insert(t).values([KEYED[0] | {"state": "s", "tag": "t"}, *(
            row | {"state": f"s{row['id']}", "tag": "t"} for row in KEYED[1:])]), None),
    "a parameter of another name": lambda t: (
        insert(t).values(id=7, text=bindparam("given")), {"given": "x"}),
    "nothing that is encrypted": lambda t: (insert(t).values(plain="p", state=None), None),
    "returning": lambda t: (insert(t).returning(t.c.id, t.c.text), ROWS[0]),
    "rows, returning": lambda t: (insert(t).returning(t.c.plain), KEYED),
    "return_defaults()": lambda t: (insert(t).return_defaults(), ROWS[0]),
    "return_defaults(), values": lambda t: (
        insert(t).values(**ROWS[0]).return_defaults(t.c.plain), None),
    "rows, return_defaults()": lambda t: (
        insert(t).return_defaults(), ROWS),
    "inline()": lambda t: (insert(t).inline(), KEYED[0]),
    "an update": lambda t: (update(t).where(t.c.id == 50).values(text="x"), None),
    "an update of others": lambda t: (update(t).where(t.c.id == 50).values(plain="x"), None),
    "updates": lambda t: (
        update(t).where(t.c.id == bindparam("key")).values(text=bindparam("given")),
        [{"key": 50, "given": "x"}, {"key": 51, "given": "y"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXECUTIONS)
def test_a_result_tells_what_it_tells_of_plain_columns(name, engine: Engine, tables):
    """Parameters, defaults that ran, keys and counts: values, where envelopes were sent."""
    found = []
    for kind in KINDS:
        table = getattr(tables, kind)
        with engine.connect() as connection:
            connection.execute(insert(table), [{"id": n, "text": "old"} for n in (50, 51)])
            statement, parameters = EXECUTIONS[name](table)
            found.append(told(connection.execute(statement, parameters)))
    assert found[1] == found[0]


@on("sqlite", "postgresql")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_generated_keys_that_are_returned_leave_the_count_alone(many, ordered, engine, tables):
    """The library may have to ask for more than the application did."""
    found = []
    for kind in KINDS:
        table = getattr(tables, kind)
        statement = insert(table).returning(table.c.text, sort_by_parameter_order=ordered)
        with engine.connect() as connection:
            result = connection.execute(statement, ROWS if many else ROWS[0])
            found.append((sorted(result.scalars()), result.rowcount))
    assert found[1] == found[0]


@pytest.mark.parametrize("given", [{}, {"state": "given"}])
def test_a_flush_reads_no_default_back(given, engine, keyring):
    """It ran in the application: the object has it, whether it was sealed or not."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_told_notes"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(Encrypted(String))
        state = mapped_column(Encrypted(String), default="new", onupdate="changed")
        tag = mapped_column(String(20), default="tag", onupdate="later")

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        note = Note(text="x", **given)
        session.add(note)
        session.commit()
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
        assert (note.state, note.tag) == (given.get("state", "new"), "tag")
        note.text = "y"
        session.commit()
        assert [each.split()[0] for each in sent] == ["UPDATE"]
        assert (note.state, note.tag) == ("changed", "later")
        assert len(sent) == 1
    Base.metadata.drop_all(engine)


def test_a_default_of_what_is_not_sealed_is_asked_by_sqlalchemy_itself(engine, metadata, keyring):
    """It may look at more of its context than this library has for it."""
    table = Table(
        "kmsenv_told_default",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column(
            "tag", String(20), default=lambda context: type(context.compiled.statement).__name__
        ),
        Column("secret", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1})
        assert connection.scalar(select(table.c.tag)) == "Insert"


def test_nothing_waits_where_there_is_nothing_to_seal(engine, tables):
    """A connection that commits each statement takes a row whose key is generated."""
    by_itself = engine.execution_options(isolation_level="AUTOCOMMIT")
    table = tables.sealed
    with by_itself.connect() as connection:
        connection.execute(insert(table).values(text=None, state=None, plain="p"))
        assert connection.scalar(select(func.count()).select_from(table)) == 1
        if engine.dialect.name != "postgresql":
            with pytest.raises(UnboundValueError, match="commits each statement by itself"):
                connection.execute(insert(table).values(text="x"))


@on("sqlite")
def test_the_rows_of_a_flush_are_sealed_together(engine, tables):
    """Also where SQL expressions among their attributes make several INSERTs of them."""

    class Note:
        text: Any
        plain: Any

    mapping = registry()
    mapping.map_imperatively(Note, tables.sealed)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2].split()[0]))
    with Session(engine) as session:
        for n in range(6):
            note: Any = Note()
            note.text = f"text {n}"
            if n % 2:
                note.plain = func.lower("P")
            session.add(note)
        session.flush()
        assert sent.count("INSERT") == 6
        assert sent.count("UPDATE") == 1
        found = session.scalars(select(tables.sealed.c.text).order_by(tables.sealed.c.id)).all()
        assert found == [f"text {n}" for n in range(6)]
    mapping.dispose()
