"""An application sees the same of an encrypted model as of a plain one.

Each way to write, with a model that has every kind of default, on each database: the answer,
what the objects hold without asking the database, what default functions were shown, the rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tests.columns.differential import KEYS, both, observe, state, told

Run = Callable[[Session, Any], Any]
WAYS: dict[str, Run] = {}

ROWS: list[dict[str, Any]] = [
    {"name": "a"},
    {"name": "b", "text": "given", "scalar": "own", "looking": "own"},
    {"name": "c", "text": None, "scalar": None, "document": None, "late": "own"},
    {"name": "d", "text": "more", "tenant": "t2", "scoped": "own"},
]
EVEN = [{"name": f"n{i}", "text": f"text {i}", "tenant": f"t{i % 2}"} for i in range(4)]


def way(run: Run) -> Run:
    """Register one way to write."""
    WAYS[run.__name__] = run
    return run


@way
def objects(session, model):
    """One flush."""
    notes = [model.Note(**row) for row in ROWS]
    session.add_all(notes)
    session.flush()
    return [state(note) for note in notes]


@way
def one_object(session, model):
    """A flush of one."""
    note = model.Note(name="a", text="x")
    session.add(note)
    session.commit()
    return state(note)


@way
def changed_objects(session, model):
    """UPDATE by a flush: what runs for it, and what an application sets itself."""
    notes = [model.Note(**row) for row in ROWS]
    session.add_all(notes)
    session.commit()
    for note in notes:
        note.name += "!"
    notes[1].text = "changed"
    notes[2].touched = "own"
    session.flush()
    first = [state(note) for note in notes]
    notes[3].text = None
    session.commit()
    return first, [state(note) for note in notes]


@way
def bulk_objects(session, model):
    """Objects that learn nothing."""
    notes = [model.Note(**row) for row in ROWS]
    session.bulk_save_objects(notes)
    return [state(note) for note in notes]


@way
def bulk_objects_with_defaults(session, model):
    """Objects that learn their keys."""
    notes = [model.Note(**row) for row in EVEN]
    session.bulk_save_objects(notes, return_defaults=True)
    return [state(note) for note in notes]


@way
def bulk_mappings(session, model):
    """Dictionaries, which learn what the database made."""
    rows = [dict(row) for row in ROWS]
    session.bulk_insert_mappings(model.Note, rows, return_defaults=True)
    return rows


@way
def bulk_statement(session, model):
    """The ORM's own bulk INSERT."""
    session.execute(insert(model.Note), ROWS)


@way
def inline_statement(session, model):
    """Values inside of an ORM statement."""
    return told(session.execute(insert(model.Note).values(name="a", text="x")))


@way
def core_one(session, model):
    """One set of parameters."""
    return told(session.connection().execute(insert(model.table), EVEN[0]))


@way
def core_one_inline(session, model):
    """Values inside of the statement."""
    statement = insert(model.table).values(name="a", text="x", scoped=None)
    return told(session.connection().execute(statement))


@way
def core_named(session, model):
    """A parameter of another name than its column."""
    statement = insert(model.table).values(name="a", text=bindparam("t"))
    return told(session.connection().execute(statement, {"t": "x"}))


@way
def core_many(session, model):
    """Many sets of parameters."""
    return told(session.connection().execute(insert(model.table), EVEN))


@way
def core_rows(session, model):
    """Rows inside of the statement."""
    if model.key == "generated":
        pytest.skip("docs/statements.md: not everywhere")
    result = session.connection().execute(insert(model.table).values(EVEN))
    return result.rowcount, result.inserted_primary_key_rows


@way
def core_uneven_rows(session, model):
    """Rows of which some leave to a default what others give."""
    if model.key == "generated":
        pytest.skip("docs/statements.md: not everywhere")
    rows = [EVEN[0] | {"scalar": "own", "tenant": "t2"}, {"name": "a", "text": "x"}]
    result = session.connection().execute(insert(model.table).values(rows))
    return result.rowcount, result.inserted_primary_key_rows


def _plainly(model: Any, rows: Any) -> list[Any]:
    """Rows without keys, which no two models share where the application makes them."""
    return [tuple(value for value in row if not isinstance(value, uuid.UUID)) for row in rows]


@way
def returning_entity(session, model):
    """One object, of an ORM statement with its values."""
    statement = insert(model.Note).values(name="a", text="x").returning(model.Note)
    result = session.execute(statement)
    return [{**state(note), "id": None, "same": note in session} for note in result.scalars()]


@way
def returning_entities(session, model):
    """Many, of the ORM's bulk INSERT."""
    statement = insert(model.Note).returning(model.Note, sort_by_parameter_order=True)
    return [{**state(note), "id": None} for note in session.scalars(statement, EVEN)]


@way
def returning_entities_unsorted(session, model):
    """Many, in the order that comes."""
    statement = insert(model.Note).returning(model.Note)
    return sorted(note.text for note in session.scalars(statement, EVEN))


@way
def returning_columns(session, model):
    """Plain ones, encrypted ones, labels, NULL, in an order of their own."""
    c = model.table.c
    columns = (c.text, c.served, c.scoped.label("s"), c.touched, c.id, c.text.is_(None))
    result = session.connection().execute(
        insert(model.table).returning(*columns), {"name": "a", "text": "x"}
    )
    rows = result.all()
    return list(result.keys()), _plainly(model, rows), result.rowcount


@way
def returning_columns_of_many(session, model):
    """The same of many."""
    c = model.table.c
    statement = insert(model.table).returning(
        c.text, c.served, c.scoped.label("s"), c.touched, c.id, sort_by_parameter_order=True
    )
    result = session.connection().execute(statement, EVEN)
    return list(result.keys()), _plainly(model, result.all())


@way
def returning_a_plain_column(session, model):
    """Neither the key nor anything that names the row."""
    one = insert(model.table).values(name="a", text="x").returning(model.table.c.name)
    first = session.connection().execute(one).all()
    many = insert(model.Note).returning(model.Note.name)
    return first, sorted(session.execute(many, EVEN).scalars())


@way
def returning_the_key(session, model):
    """What most applications ask for."""
    key = session.scalar(insert(model.Note).values(name="a", text="x").returning(model.Note.id))
    keys = session.scalars(insert(model.Note).returning(model.Note.id), EVEN).all()
    found = [session.get(model.Note, each).text for each in (key, *keys)]
    return sorted(found), len({key, *keys})


@way
def returning_the_table(session, model):
    """``returning(table)`` and ``return_defaults()``."""
    connection = session.connection()
    result = connection.execute(insert(model.table).returning(model.table), EVEN[0])
    row = {**result.one()._mapping, "id": None}
    result = connection.execute(insert(model.table).return_defaults(), EVEN[1])
    defaults = {**result.returned_defaults._mapping, "id": None}
    columns = (model.table.c.text, model.table.c.served)
    result = connection.execute(insert(model.table).return_defaults(*columns), EVEN[2])
    return row, defaults, result.returned_defaults.served


@way
def skipping(session, model):
    """What is there already stays; what is new is written."""
    connection = session.connection()
    if connection.dialect.name == "mysql" and model.key == "default":
        pytest.skip("docs/statements.md: IGNORE may change a key that is given")
    connection.execute(insert(model.table), EVEN[:2])
    results = [connection.execute(_skip(session, model), row) for row in EVEN]
    more = [{**row, "name": f"more {i % 2}"} for i, row in enumerate(EVEN)]
    if connection.dialect.name != "mysql":
        results.append(connection.execute(_skip(session, model), more))
    # The key that SQLAlchemy tells of a row that was left out is another row's.
    made = [each.inserted_primary_key_rows if each.rowcount else [] for each in results]
    return [(each.rowcount, each.returns_rows) for each in results], made


@way
def skipping_and_returning(session, model):
    """Only the rows that are new come back."""
    if session.connection().dialect.name == "mysql":
        pytest.skip("no RETURNING in SQLAlchemy's mysql dialects")
    session.execute(insert(model.table), EVEN[1:2])
    statement = _skip(session, model, model.Note).returning(model.Note.text)
    one = session.scalars(statement.values(**EVEN[1])).all()
    other = session.scalars(statement.values(**EVEN[0])).all()
    return one, other, sorted(session.scalars(statement, EVEN).all())


def _skip(session: Session, model: Any, target: Any = None) -> Any:
    name = session.connection().dialect.name
    into = model.table if target is None else target
    if name == "mysql":
        return insert(into).prefix_with("IGNORE")
    return {"sqlite": sqlite, "postgresql": postgresql}[name].insert(into).on_conflict_do_nothing()


def _three(session: Session, model: Any) -> list[Any]:
    notes = [model.Note(**row) for row in EVEN[:3]]
    session.add_all(notes)
    session.commit()
    model.seen.calls.clear()
    return notes


@way
def core_update(session, model):
    """By key, the new value in the statement."""
    first, *_ = _three(session, model)
    where = update(model.table).where(model.table.c.id == first.id)
    return told(session.connection().execute(where.values(text="new")))


@way
def core_update_of_a_plain_column(session, model):
    """Everything that is encrypted in it is an ``onupdate``."""
    first, *_ = _three(session, model)
    where = update(model.table).where(model.table.c.id == first.id)
    return told(session.connection().execute(where, {"name": "new"}))


@way
def core_update_of_many(session, model):
    """By key, many sets of parameters."""
    notes = _three(session, model)
    statement = update(model.table).where(model.table.c.id == bindparam("k"))
    rows = [{"k": note.id, "text": f"new {i}", "scalar": None} for i, note in enumerate(notes)]
    return session.connection().execute(statement, rows).rowcount


@way
def bulk_update(session, model):
    """The ORM's own bulk UPDATE."""
    notes = _three(session, model)
    rows = [{"id": note.id, "text": f"new {i}"} for i, note in enumerate(notes)]
    session.execute(update(model.Note), rows)
    return [state(note) for note in notes]


@way
def bulk_update_mappings(session, model):
    """By primary key."""
    notes = _three(session, model)
    rows = [{"id": note.id, "text": f"new {i}"} for i, note in enumerate(notes)]
    session.bulk_update_mappings(model.Note, rows)


@way
def update_with_objects(session, model):
    """ORM-enabled: objects of the session follow."""
    first, *_ = _three(session, model)
    statement = update(model.Note).where(model.Note.id == first.id).values(text="new")
    for synchronize in ("evaluate", "fetch", "auto"):
        session.execute(statement, execution_options={"synchronize_session": synchronize})
    return state(first)


@way
def merged(session, model):
    """Loads, compares, writes."""
    first, *_ = _three(session, model)
    session.merge(model.Note(id=first.id, text="new", scalar="scalar"))
    session.flush()
    return state(first)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", WAYS)
def test_an_encrypted_model_does_what_a_plain_one_does(engine, keyring, name, key):
    """The answer, the objects, the calls of default functions and the rows."""
    with both(engine, keyring, key) as (plain, sealed):
        expected = observe(engine, plain, WAYS[name])
        found = observe(engine, sealed, WAYS[name])
    assert found == expected


def test_default_functions_are_asked_in_every_way(engine, keyring):
    """Else the comparison above says nothing of what they are shown."""
    with both(engine, keyring, "generated") as (plain, _):
        observe(engine, plain, WAYS["objects"])
        names = {name for name, _ in plain.seen.calls}
        assert names == {"early", "counted", "looking", "late"}
        with Session(engine) as session:
            session.scalars(select(plain.Note).limit(1)).one().text = "x"
            session.commit()
        assert {name for name, _ in plain.seen.calls} == names | {"looked", "later"}
