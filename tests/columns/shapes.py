"""Every shape of statement, what it does on each database, and the page that says so.

``tests/columns/test_statements.py`` runs them all; ``python -m tests.columns.shapes``
writes ``docs/statements.md`` from the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    LargeBinary,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    lambda_stmt,
    literal,
    select,
    text,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from sqlalchemy_kmsenv import EnvelopeError, UnboundValueError

PAGE = Path(__file__).parents[2] / "docs" / "statements.md"
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MySQL, MariaDB"}

Rows = dict[str, tuple[str | None, str | None] | None]
"""By name: what ``text`` and ``secret`` hold afterwards, None for a row that is gone."""

BEFORE: Rows = {"a": ("text a", "secret a"), "b": ("text b", "secret b")}
"""What both tables hold when a shape starts: ids 1 and 2, tenant ``t1``."""


@dataclass(frozen=True)
class Shape:
    """One shape of statement."""

    section: str
    code: str
    """As a reader would write it."""
    run: Callable[[Session, SimpleNamespace], Rows | None]
    """Executes it; returns the rows of the table that are different from then on."""
    refused: Mapping[str, type[Exception]]
    """The error on each database where it does not work."""
    absent: frozenset[str]
    """Databases that have no such statement."""


SHAPES: dict[str, Shape] = {}
REFUSED_EVERYWHERE = dict.fromkeys(DATABASES, UnboundValueError)


def shape(
    section: str,
    code: str,
    *,
    refused: Mapping[str, type[Exception]] | type[Exception] | None = None,
    absent: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """Register a function as a shape; ``refused`` alone means on every database."""
    by_database = dict.fromkeys(DATABASES, refused) if isinstance(refused, type) else refused

    def register(run: Callable[[Session, SimpleNamespace], Rows | None]) -> Any:
        assert run.__name__ not in SHAPES
        SHAPES[run.__name__] = Shape(section, code, run, by_database or {}, frozenset(absent))
        return run

    return register


def given(table: Table, key: int, name: str, **values: str | None) -> dict[str, Any]:
    """A row for the table whose keys the application gives."""
    return {"id": key, "name": name, "tenant": "t1", **values}


def upserting(session: Session, table: Table) -> Any:
    """The INSERT of this database's dialect."""
    name = session.get_bind().dialect.name
    return {"postgresql": postgresql, "sqlite": sqlite}.get(name, mysql).insert(table)


def on_conflict(statement: Any, make: Callable[[Any], dict[str, Any]]) -> Any:
    """Update the row that is there; ``make`` gets the new row's columns."""
    if hasattr(statement, "on_duplicate_key_update"):
        return statement.on_duplicate_key_update(**make(statement.inserted))
    return statement.on_conflict_do_update(index_elements=["id"], set_=make(statement.excluded))


# --- INSERT -------------------------------------------------------------------------------

INSERT = "INSERT"
NEW = {"text": "x", "secret": "y"}
BOTH: Rows = {"c": ("x", "y"), "d": ("x", "y")}


@shape(INSERT, 'session.add_all([Note(text="x"), ...])  # the server generates the key')
def flush_generated(s, m):
    """Sealed in the flush: ahead of the INSERT on PostgreSQL, behind it elsewhere."""
    s.add_all([m.Note(name=name, tenant="t1", **NEW) for name in "cd"])
    s.flush()
    return BOTH


@shape(INSERT, 'session.add(Note(id=7, text="x"))')
def flush_given(s, m):
    """The key is known beforehand."""
    s.add(m.Given(**given(m.given, 7, "c", **NEW)))
    s.flush()
    return {"c": ("x", "y")}


@shape(INSERT, 'insert(t).values(text="x")  # the server generates the key')
def core_generated(s, m):
    """One row."""
    s.connection().execute(insert(m.note).values(name="c", tenant="t1", **NEW))
    return {"c": ("x", "y")}


@shape(INSERT, 'execute(insert(t), [{"text": "x"}, ...])  # the server generates the keys')
def core_generated_many(s, m):
    """Where RETURNING gives the keys; MySQL has none."""
    rows = [{"name": name, "tenant": "t1", **NEW} for name in "cd"]
    s.connection().execute(insert(m.note), rows)
    return BOTH


@shape(INSERT, 'execute(insert(t), [{"id": 7, "text": "x"}, ...])')
def core_given_many(s, m):
    """One batch."""
    s.connection().execute(
        insert(m.given), [given(m.given, 7 + i, name, **NEW) for i, name in enumerate("cd")]
    )
    return BOTH


@shape(INSERT, 'insert(t).values([{"id": 7, "text": "x"}, ...])')
def many_values_given(s, m):
    """Rows inside of the statement."""
    rows = [given(m.given, 7 + i, name, **NEW) for i, name in enumerate("cd")]
    s.connection().execute(insert(m.given).values(rows))
    return BOTH


@shape(INSERT, 'insert(t).values([{"text": "x"}, ...])  # the server generates the keys', refused={
    "sqlite": UnboundValueError, "mariadb": UnboundValueError,
})  # fmt: skip
def many_values_generated(s, m):
    """The keys are not returned in the order of the rows."""
    rows = [{"name": name, "tenant": "t1", **NEW} for name in "cd"]
    s.connection().execute(insert(m.note).values(rows))
    return BOTH


@shape(INSERT, "session.bulk_insert_mappings(Note, [...]), bulk_save_objects([...])")
def bulk_methods(s, m):
    """With generated keys and with given ones."""
    s.bulk_insert_mappings(m.Note, [{"name": "c", "tenant": "t1", **NEW}])
    s.bulk_save_objects([m.Note(name="d", tenant="t1", **NEW)])
    return BOTH


@shape(INSERT, "session.execute(insert(Note), [{...}, ...])")
def orm_bulk(s, m):
    """The ORM's own bulk INSERT."""
    s.execute(insert(m.Note), [{"name": name, "tenant": "t1", **NEW} for name in "cd"])
    return BOTH


@shape(INSERT, "insert(t).values(id=7, ...).returning(t.c.text)")
def returning_one(s, m):
    """MariaDB's RETURNING is used by SQLAlchemy only with its mariadb dialects."""
    statement = insert(m.given).values(given(m.given, 7, "c", **NEW))
    if not s.get_bind().dialect.insert_returning:
        s.connection().execute(statement)
        return {"c": ("x", "y")}
    row = s.connection().execute(statement.returning(m.given.c.id, m.given.c.text)).one()
    assert row == (7, "x")
    return {"c": ("x", "y")}


@shape(INSERT, 'execute(insert(t).returning(t.c.text), [{"id": 7, ...}, ...])')
def returning_many(s, m):
    """Keys that are given."""
    rows = [given(m.given, 7 + i, name, **NEW) for i, name in enumerate("cd")]
    statement = insert(m.given)
    if not s.get_bind().dialect.insert_executemany_returning:
        s.connection().execute(statement, rows)
        return BOTH
    found = s.connection().execute(statement.returning(m.given.c.id, m.given.c.text), rows).all()
    assert sorted(found) == [(7, "x"), (8, "x")]
    return BOTH


@shape(INSERT, "insert(t).values(...).returning(...)  # the server generates the key")
def returning_generated(s, m):
    """It is sealed before the row comes back; the key alone, and ``return_defaults()`` too."""
    statement = insert(m.note).values(name="c", tenant="t1", **NEW)
    if s.get_bind().dialect.insert_returning:
        assert s.connection().execute(statement.returning(m.note.c.text)).scalar() == "x"
    else:
        s.connection().execute(statement)
    return {"c": ("x", "y")}


@shape(INSERT, "execute(insert(t).returning(...), [{...}, ...])  # the server generates the keys")
def returning_many_generated(s, m):
    """Expressions over an encrypted column are refused: it is empty when they are computed."""
    rows = [{"name": n, "tenant": "t1", "text": "x", "secret": "y"} for n in "cd"]
    if s.connection().dialect.name == "mysql":
        s.connection().execute(insert(m.note), rows)
    else:
        found = s.connection().execute(insert(m.note).returning(m.note.c.text), rows)
        assert found.scalars().all() == ["x", "x"]
    return dict.fromkeys("cd", ("x", "y"))


@shape(INSERT, "insert(t).from_select([...], select(t))", refused=UnboundValueError)
def from_select(s, m):
    """It would copy envelopes to other rows."""
    source = select(m.given.c.id + 10, literal("c"), m.given.c.tenant, m.given.c.text)
    s.connection().execute(insert(m.given).from_select(["id", "name", "tenant", "text"], source))


@shape(INSERT, "insert(t).from_select([...], ...)  # no encrypted column among them")
def from_select_plain(s, m):
    """Nothing is sealed."""
    source = select(literal(7), literal("c"), literal("t1"))
    s.connection().execute(insert(m.given).from_select(["id", "name", "tenant"], source))
    return {"c": (None, None)}


@shape(INSERT, 'insert(t).values(text=func.lower("X"))', refused=UnboundValueError)
def insert_expression(s, m):
    """The value would be known to the database alone, in plaintext."""
    s.connection().execute(insert(m.given).values(id=7, name="c", tenant="t1",
                                                  text=func.lower("X")))  # fmt: skip


@shape(INSERT, "select(insert(t).values(...).returning(t.c.id).cte())", refused=UnboundValueError)
def insert_in_a_cte(s, m):
    """Its parameters belong to the outer statement. SQLite and MySQL have no such statement."""
    inner = insert(m.given).values(given(m.given, 7, "c", **NEW)).returning(m.given.c.id).cte()
    s.connection().execute(select(inner.c.id))


@shape(INSERT, "autocommit: insert(t).values(...)  # the server generates the key", refused={
    "sqlite": UnboundValueError, "mariadb": UnboundValueError,
})  # fmt: skip
def autocommit_generated(s, m):
    """A row could stay without its value."""
    with s.get_bind().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(m.note).values(name="c", tenant="t1", **NEW))
    return {"c": ("x", "y")}


# --- upserts ------------------------------------------------------------------------------

UPSERT = "ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE"


@shape(UPSERT, 'on the primary key, set_={"text": new.excluded.text}  # MySQL: new.inserted.text')
def upsert_on_the_key(s, m):
    """The row that survives is the one that the value is sealed for."""
    new = upserting(s, m.given).values(given(m.given, 1, "a", text="x"))
    s.connection().execute(on_conflict(new, lambda e: {"text": e.text}))
    return {"a": ("x", "secret a")}


@shape(UPSERT, "execute(the same, [{...}, ...])")
def upsert_many(s, m):
    """Rows that are there, and rows that are not."""
    new = upserting(s, m.given)
    statement = on_conflict(new, lambda e: {"text": e.text})
    rows = [given(m.given, 1, "a", text="x"), given(m.given, 7, "c", text="z")]
    s.connection().execute(statement, rows)
    return {"a": ("x", "secret a"), "c": ("z", None)}


@shape(UPSERT, 'set_={"secret": new.excluded.secret, "tenant": new.excluded.tenant}')
def upsert_with_scope(s, m):
    """The scope goes with the value."""
    new = upserting(s, m.given).values({**given(m.given, 1, "a", secret="x"), "tenant": "t2"})
    statement = on_conflict(new, lambda e: {"secret": e.secret, "tenant": e.tenant})
    s.connection().execute(statement)
    return {"a": ("text a", "x")}


@shape(UPSERT, 'set_={"text": None}')
def upsert_null(s, m):
    """NULL is bound to nothing."""
    new = upserting(s, m.given).values(given(m.given, 1, "a", text="x"))
    s.connection().execute(on_conflict(new, lambda _: {"text": None}))
    return {"a": (None, "secret a")}


@shape(UPSERT, 'set_={"name": "new"}  # a plain column')
def upsert_plain(s, m):
    """The row keeps its values."""
    new = upserting(s, m.given).values(given(m.given, 1, "a", text="x"))
    s.connection().execute(on_conflict(new, lambda _: {"name": "n"}))
    return {"a": None, "n": ("text a", "secret a")}


@shape(
    UPSERT, 'set_={"secret": new.excluded.secret}  # without its scope', refused=UnboundValueError
)
def upsert_without_scope(s, m):
    """The row that survives may have another one."""
    new = upserting(s, m.given).values({**given(m.given, 1, "a", secret="x"), "tenant": "t2"})
    s.connection().execute(on_conflict(new, lambda e: {"secret": e.secret}))


@shape(UPSERT, 'set_={"text": "x"}  # a value of its own, one row or many')
def upsert_own_value(s, m):
    """Sealed for the new row, which the one that survives has the key of."""
    new = upserting(s, m.given).values([given(m.given, n, "a", text="y") for n in (1, 2)])
    s.connection().execute(on_conflict(new, lambda _: {"text": "x"}))
    return {"a": ("x", "secret a"), "b": ("x", "secret b")}


@shape(UPSERT, 'set_={"text": coalesce(new.excluded.text, t.c.text)}  # or CASE of these')
def upsert_coalesced(s, m):
    """Both are values of this row."""
    new = upserting(s, m.given).values(given(m.given, 1, "a", text=None))
    s.connection().execute(
        on_conflict(new, lambda e: {"text": func.coalesce(e.text, m.given.c.text)})
    )


@shape(UPSERT, 'set_={"text": func.lower("X")}', refused=UnboundValueError)
def upsert_expression(s, m):
    """The value would be known to the database alone, in plaintext."""
    new = upserting(s, m.given).values(given(m.given, 1, "a", text="x"))
    s.connection().execute(on_conflict(new, lambda _: {"text": func.lower("X")}))


@shape(UPSERT, 'set_={"tenant": ...}  # leaves values behind', refused=UnboundValueError)
def upsert_scope_alone(s, m):
    """They would not open any more."""
    new = upserting(s, m.given).values({**given(m.given, 1, "a"), "tenant": "t2"})
    s.connection().execute(on_conflict(new, lambda e: {"tenant": e.tenant}))


@shape(UPSERT, "on another unique key", refused=UnboundValueError)
def upsert_on_another_key(s, m):
    """The row that survives has another primary key. With `identity=["name"]` it works."""
    new = upserting(s, m.note).values(given(m.note, 7, "a", text="x"))
    if hasattr(new, "on_duplicate_key_update"):
        statement = new.on_duplicate_key_update(text=new.inserted.text)
    else:
        statement = new.on_conflict_do_update(
            index_elements=["name"], set_={"text": new.excluded.text}
        )
    s.connection().execute(statement)


@shape(UPSERT, "on_conflict_do_nothing()  # MySQL: on_duplicate_key_update(id=new.inserted.id)")
def do_nothing(s, m):
    """A row that is there stays as it is; the key is given."""
    new = upserting(s, m.given)
    if hasattr(new, "inserted"):
        quiet = new.on_duplicate_key_update(id=new.inserted.id)
    else:
        quiet = new.on_conflict_do_nothing()
    s.connection().execute(
        quiet, [given(m.given, 1, "a", text="x"), given(m.given, 7, "c", text="z")]
    )
    return {"c": ("z", None)}


@shape(
    UPSERT,
    "on_conflict_do_nothing()  # MySQL: prefix_with('IGNORE'); the server generates the key",
)
def do_nothing_generated(s, m):
    """The database says which rows it has made; on MySQL of one row at a time."""
    new = upserting(s, m.note)
    if hasattr(new, "inserted"):
        quiet = insert(m.note).prefix_with("IGNORE")
    else:
        quiet = new.on_conflict_do_nothing()
    for name in "ac":
        s.connection().execute(quiet, {"name": name, "tenant": "t1", "text": "z"})
    return {"c": ("z", None)}


@shape(
    UPSERT,
    'insert(t).prefix_with("IGNORE")  # the key is given',
    refused={"mariadb": UnboundValueError},
    absent=("sqlite", "postgresql"),
)
def insert_ignore(s, m):
    """It would change a key that is out of range, and the value is sealed for the one given."""
    statement = insert(m.given).prefix_with("IGNORE")
    s.connection().execute(statement, given(m.given, 7, "c", text="z"))


# --- UPDATE -------------------------------------------------------------------------------

UPDATE = "UPDATE"


@shape(UPDATE, 'note.text = "x"; session.flush()')
def flush_update(s, m):
    """One batch for the objects that changed the same attributes."""
    for row in s.query(m.Note):
        row.text = "x"
    s.flush()
    return {"a": ("x", "secret a"), "b": ("x", "secret b")}


@shape(UPDATE, 'note.id = 9, note.tenant = "t2"; session.flush()')
def flush_move(s, m):
    """Every value is sealed again, for where the row is now."""
    row = s.query(m.Given).filter_by(name="a").one()
    row.id, row.tenant = 9, "t2"
    s.flush()
    return {}


@shape(UPDATE, 'update(t).where(t.c.id == 1).values(text="x")')
def core_update(s, m):
    """The key names the row; the scope is read in the same transaction."""
    s.connection().execute(update(m.note).where(m.note.c.id == 1).values(text="x", secret="z"))
    return {"a": ("x", "z")}


@shape(UPDATE, 'update(t).where(t.c.name == "a").values(text="x")  # name is unique')
def core_update_by_unique_key(s, m):
    """It names one row, whose key is read in the same transaction."""
    s.connection().execute(update(m.note).where(m.note.c.name == "a").values(text="x", secret="y"))
    return {"a": ("x", "y")}


@shape(UPDATE, 'session.execute(update(Note), [{"id": 1, "text": "x"}, ...])')
def orm_bulk_update(s, m):
    """By primary key."""
    s.execute(update(m.Note), [{"id": 1, "text": "x"}, {"id": 2, "text": "z"}])
    return {"a": ("x", "secret a"), "b": ("z", "secret b")}


@shape(UPDATE, 'execute(update(t).where(t.c.id == bindparam("k")), [{"k": 1, "text": "x"}, ...])')
def core_update_many(s, m):
    """Core's executemany."""
    statement = update(m.note).where(m.note.c.id == bindparam("k"))
    s.connection().execute(statement, [{"k": 1, "text": "x"}, {"k": 2, "text": "z"}])
    return {"a": ("x", "secret a"), "b": ("z", "secret b")}


@shape(UPDATE, "session.bulk_update_mappings(Note, [...])")
def bulk_update_mappings(s, m):
    """By primary key."""
    s.bulk_update_mappings(m.Note, [{"id": 1, "secret": "x"}])
    return {"a": ("text a", "x")}


@shape(UPDATE, "session.merge(Note(id=1, ...))")
def merging(s, m):
    """Loads, compares in the application, and writes what differs."""
    s.merge(m.Note(id=1, text="x"))
    s.flush()
    return {"a": ("x", "secret a")}


@shape(UPDATE, "update(t).values(text=None)  # any number of rows")
def update_to_null(s, m):
    """NULL is bound to nothing."""
    s.connection().execute(update(m.note).values(text=None))
    return {"a": (None, "secret a"), "b": (None, "secret b")}


@shape(UPDATE, 'update(t).values(loose="x")  # bind="column", any number of rows')
def update_of_many_loose(s, m):
    """Such a value belongs to no row."""
    s.connection().execute(update(m.note).values(loose="x"))
    assert set(s.scalars(select(m.note.c.loose))) == {"x"}
    return {}


@shape(UPDATE, 'update(t).where(t.c.tenant == "t1").values(text="x")', refused=UnboundValueError)
def update_of_many(s, m):
    """One envelope cannot be bound to several rows."""
    s.connection().execute(update(m.note).where(m.note.c.tenant == "t1").values(text="x"))


@shape(UPDATE, "update(t).values(text=t.c.secret)", refused=UnboundValueError)
def update_from_a_column(s, m):
    """It would copy an envelope to where it does not open."""
    s.connection().execute(update(m.note).where(m.note.c.id == 1).values(text=m.note.c.secret))


@shape(UPDATE, "update(t).values(name=t.c.text)", refused=UnboundValueError)
def update_plain_from_encrypted(s, m):
    """It would put an envelope where a text belongs."""
    s.connection().execute(update(m.note).values(name=m.note.c.text))


@shape(UPDATE, 'update(t).where(t.c.id == 1).values(tenant="t2")', refused=UnboundValueError)
def core_move(s, m):
    """It would leave values behind that do not open any more."""
    s.connection().execute(update(m.note).where(m.note.c.id == 1).values(tenant="t2"))


@shape(UPDATE, 'update(t).where(t.c.id == 1).values(tenant="t2", secret="x")')
def core_move_with_values(s, m):
    """With every encrypted column that is bound to what changes."""
    s.connection().execute(update(m.note).where(m.note.c.id == 1).values(tenant="t2", secret="x"))
    return {"a": ("text a", "x")}


@shape(UPDATE, "update(t).where(...).values(name=...)  # a plain column")
def update_plain(s, m):
    """Nothing is sealed."""
    s.connection().execute(update(m.note).where(m.note.c.name == "a").values(name="n"))
    return {"a": None, "n": ("text a", "secret a")}


@shape(UPDATE, 'update(t.alias()).values(tenant="t2")', refused=UnboundValueError)
def update_of_an_alias(s, m):
    """Nothing can be sealed through an alias, a join, or several tables."""
    s.connection().execute(update(m.given.alias()).values(tenant="t2"))


@shape(UPDATE, 'lambda_stmt(lambda: update(t).values(tenant="t2"))', refused=UnboundValueError)
def update_in_a_lambda(s, m):
    """The engine's events do not see the UPDATE; so in from_statement() and CTEs."""
    table = m.given
    s.connection().execute(lambda_stmt(lambda: update(table).values(tenant="t2")))


@shape(UPDATE, "delete(t).where(...), session.delete(note)")
def deleting(s, m):
    """Untouched."""
    s.delete(s.query(m.Note).filter_by(name="a").one())
    s.flush()
    s.connection().execute(delete(m.note).where(m.note.c.name == "b"))
    return {"a": None, "b": None}


# --- SELECT -------------------------------------------------------------------------------

SELECT = "SELECT"


@shape(SELECT, "select(Note), select(t.c.text), labels, aliases, joins, RETURNING")
def reading(s, m):
    """Wherever the column comes with its row."""
    other = aliased(m.Note)
    query = select(m.note.c.text.label("n"), other.text).join(other, other.id == m.note.c.id)
    assert s.execute(query.order_by(m.note.c.id)).all() == [("text a",) * 2, ("text b",) * 2]


@shape(SELECT, "joinedload, selectinload, subqueries and CTEs that carry the key")
def deep_reading(s, m):
    """The subquery selects what names the row."""
    options = [joinedload(m.Note.replies), selectinload(m.Note.replies)]
    for option in options:
        assert s.scalars(select(m.Note).options(option).limit(1)).unique().all()
    inner = select(m.note).order_by(m.note.c.id).limit(1).cte()
    assert s.execute(select(inner.c.text, inner.c.secret)).all() == [("text a", "secret a")]


@shape(SELECT, "select(select(t.c.text).subquery().c.text)  # without the key",
       refused=UnboundValueError)  # fmt: skip
def subquery_without_the_key(s, m):
    """Nothing says which row the value is in."""
    s.execute(select(select(m.note.c.text).subquery().c.text)).all()


@shape(SELECT, "t.c.text.is_(None), is_not(None), func.count(t.c.text), exists(select(t.c.text))")
def null_and_count(s, m):
    """NULL is visible."""
    assert s.scalar(select(func.count(m.note.c.text)).where(m.note.c.text.is_not(None))) == 2
    assert s.scalar(select(exists(select(m.note.c.text))))


@shape(SELECT, "count(t.c.text) in HAVING, ORDER BY, arithmetic, filter(), over(), coalesce()")
def counting(s, m):
    """It counts what is not NULL; count(distinct ...) is refused."""
    counted = func.count(m.note.c.text)
    query = select(func.coalesce(counted, 0) + 1).having(counted > 0).order_by(counted.desc())
    assert s.scalars(query.group_by(m.note.c.tenant)).all()


@shape(SELECT, "select(select(t.c.text).where(...).scalar_subquery()), column_property() of it")
def scalar_subquery(s, m):
    """Where the subquery selects one encrypted column, and the result holds what it gives."""
    inner = select(m.note.c.text).order_by(m.note.c.id).limit(1).scalar_subquery()
    assert s.scalar(select(inner.label("first"))) == "text a"


@shape(SELECT, "a scalar subquery in DISTINCT, UNION, WHERE, ORDER BY, or another subquery",
       refused=UnboundValueError)  # fmt: skip
def scalar_subquery_elsewhere(s, m):
    """It would be compared as envelopes, or read without its row; make two queries of it."""
    inner = select(m.note.c.text).order_by(m.note.c.id).limit(1).scalar_subquery()
    s.execute(select(inner).distinct()).all()


@shape(SELECT, "type_coerce(t.c.text, LargeBinary)")
def stored_bytes(s, m):
    """The envelope as it is stored."""
    found = s.scalars(select(type_coerce(m.note.c.text, LargeBinary))).all()
    assert found
    assert all(bytes(each)[:2] == b"\xe5\x01" for each in found)


@shape(SELECT, "select(t.c.id, t.c.text).distinct(), union_all(...) of one column")
def distinct_with_the_key(s, m):
    """The key tells rows apart."""
    query = select(m.note.c.id, m.note.c.text)
    assert len(s.execute(query.distinct()).all()) == 2
    assert len(s.execute(union_all(query, query)).all()) == 4


@shape(SELECT, "select(t.c.text).distinct(), union(...) without the key", refused=UnboundValueError)
def distinct_without_the_key(s, m):
    """Two envelopes of one value differ."""
    s.execute(select(m.note.c.text).distinct()).all()


@shape(SELECT, "union_all(select(t.c.id, t.c.text), select(t.c.id, t.c.secret))",
       refused=UnboundValueError)  # fmt: skip
def union_of_columns(s, m):
    """The values of two columns cannot be told apart."""
    s.execute(
        union_all(select(m.note.c.id, m.note.c.text), select(m.note.c.id, m.note.c.secret))
    ).all()


@shape(SELECT, '==, !=, <, in_(), like(), between(), + and every other operator',
       refused=UnboundValueError)  # fmt: skip
def comparing(s, m):
    """With a value refused when it is built, between columns before it is sent."""
    s.execute(select(m.note).where(m.note.c.text == "text a")).all()


@shape(SELECT, "order_by(), group_by(), having(), over(partition_by=...), by name or label too",
       refused=UnboundValueError)  # fmt: skip
def ordering(s, m):
    """Refused before it is sent."""
    s.execute(select(m.note.c.text.label("n")).order_by("n")).all()


@shape(SELECT, "func.lower(t.c.text), cast(), case(), coalesce(), aggregates",
       refused=UnboundValueError)  # fmt: skip
def functions(s, m):
    """They would work on envelopes."""
    s.execute(select(func.coalesce(m.note.c.text, "none"))).all()


@shape(SELECT, 'text("SELECT text FROM t")')
def raw_text(s, m):
    """Raw SQL is never touched; it sees envelopes."""
    found = s.execute(text("SELECT text FROM kmsenv_shapes")).scalars().all()
    assert found
    assert all(bytes(each)[:2] == b"\xe5\x01" for each in found)


@shape(SELECT, 'select(Note).from_statement(text("..."))', refused=UnboundValueError)
def entity_from_text(s, m):
    """The text does not say which row a value is in."""
    s.scalars(select(m.Note).from_statement(text("SELECT * FROM kmsenv_shapes"))).all()


@shape(SELECT, "a plaintext that raw SQL wrote", refused=EnvelopeError)
def plaintext_in_the_column(s, m):
    """It is no envelope."""
    s.execute(text("UPDATE kmsenv_shapes SET text = 'plain' WHERE id = 1"))
    s.execute(select(m.note.c.text)).all()


@shape(SELECT, "compile_kwargs={'literal_binds': True}  # of a value", refused=UnboundValueError)
def literal_binds(s, m):
    """No plaintext is ever rendered into SQL."""
    statement = insert(m.given).values(given(m.given, 7, "c", **NEW))
    statement.compile(s.get_bind(), compile_kwargs={"literal_binds": True})


def page() -> str:
    """``docs/statements.md``."""
    lines = [
        "# Statements",
        "",
        "Each shape of statement, and what becomes of it: it works, or an error is raised before",
        "anything is sent. Every line is a test on SQLite, PostgreSQL and MariaDB, with the lowest",
        "SQLAlchemy that is supported and with the newest; the outcomes of both are the same.",
        "",
        "`Note` is mapped to the table `t`; `text` is bound to the row, `secret` to its `tenant`",
        'too, `loose` to no row (`bind="column"`). MySQL proper has not been run; it returns no',
        "keys, so there `execute(insert(t), [...])` of several rows whose keys it generates is",
        "refused as well: let a session add the objects, or give the keys.",
    ]
    section = None
    for each in SHAPES.values():
        if each.section != section:
            section = each.section
            head = f"| shape | {' | '.join(DATABASES.values())} | |"
            lines += ["", f"## {section}", "", head, "|---|---|---|---|---|"]
        outcomes = [_outcome(each, database) for database in DATABASES]
        why = (each.run.__doc__ or "").strip()
        code = each.code.replace("|", "\\|")
        lines.append(f"| `{code}` | {' | '.join(outcomes)} | {why} |")
    return "\n".join(lines) + "\n"


def _outcome(each: Shape, database: str) -> str:
    if database in each.absent:
        return "none such"
    error = each.refused.get(database)
    return "works" if error is None else f"`{error.__name__}`"


if __name__ == "__main__":
    PAGE.write_text(page())
