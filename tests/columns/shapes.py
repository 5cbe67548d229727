"""Shapes of statements that the matrix does not have, and what each does on each database.

``tests/columns/test_statements.py`` runs them all; ``docs/statements.md`` tells them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    LargeBinary,
    Table,
    func,
    insert,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, joinedload, selectinload

from sqlalchemy_kmsenv import EnvelopeError, UnboundValueError

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


# --- upserts ------------------------------------------------------------------------------

UPSERT = "ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE"


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


# --- UPDATE -------------------------------------------------------------------------------

UPDATE = "UPDATE"


@shape(UPDATE, 'update(t).where(t.c.name == "a").values(text="x")  # name is unique')
def core_update_by_unique_key(s, m):
    """It names one row, whose key is read in the same transaction."""
    s.connection().execute(update(m.note).where(m.note.c.name == "a").values(text="x", secret="y"))
    return {"a": ("x", "y")}


@shape(UPDATE, 'update(t).where(t.c.tenant == "t1").values(text="x")', refused=UnboundValueError)
def update_of_many(s, m):
    """One envelope cannot be bound to several rows."""
    s.connection().execute(update(m.note).where(m.note.c.tenant == "t1").values(text="x"))


# --- SELECT -------------------------------------------------------------------------------

SELECT = "SELECT"


@shape(SELECT, "joinedload, selectinload, subqueries and CTEs that carry the key")
def deep_reading(s, m):
    """The subquery selects what names the row."""
    options = [joinedload(m.Note.replies), selectinload(m.Note.replies)]
    for option in options:
        assert s.scalars(select(m.Note).options(option).limit(1)).unique().all()
    inner = select(m.note).order_by(m.note.c.id).limit(1).cte()
    assert s.execute(select(inner.c.text, inner.c.secret)).all() == [("text a", "secret a")]


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


@shape(SELECT, 'text("SELECT text FROM t")')
def raw_text(s, m):
    """Raw SQL is never touched; it sees envelopes."""
    found = s.execute(text("SELECT text FROM kmsenv_shapes")).scalars().all()
    assert found
    assert all(bytes(each)[:2] == b"\xe5\x01" for each in found)


@shape(SELECT, "a plaintext that raw SQL wrote", refused=EnvelopeError)
def plaintext_in_the_column(s, m):
    """It is no envelope."""
    s.execute(text("UPDATE kmsenv_shapes SET text = 'plain' WHERE id = 1"))
    s.execute(select(m.note.c.text)).all()


@shape(SELECT, "compile_kwargs={'literal_binds': True}  # of a value", refused=UnboundValueError)
def literal_binds(s, m):
    """No plaintext is ever rendered into SQL."""
    statement = insert(m.given).values(given(m.given, 7, "c", text="x"))
    statement.compile(s.get_bind(), compile_kwargs={"literal_binds": True})
