"""A statement is looked through wherever it stands inside of another one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    LargeBinary,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
    update,
    values,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Integer, String

from sqlalchemy_kmsenv import UnboundValueError
from tests.conftest import on

pytestmark = on("sqlite")


def inner(m, *, good):
    """A SELECT that sorts its rows; by what is encrypted, or not."""
    t = m.table
    query = select(t.c.id, t.c.note, t.c.plain)
    return query.order_by(t.c.id if good else t.c.note).limit(1)


def upserting(m, *, value=None, where=None):
    """An upsert that sets a plain column, or one that asks for more."""
    new = sqlite.insert(m.table).values(id=1, plain="p", device_id="d1")
    return new.on_conflict_do_update(
        index_elements=["id"], set_={"plain": "x" if value is None else value}, where=where
    )


# What a FROM holds: ``s`` is the subquery, with the columns id, note and plain.
FROM: dict[str, Any] = {
    "a column": lambda _, s: select(s.c.plain),
    "an encrypted column": lambda _, s: select(s.c.note),
    "all": lambda _, s: select(s),
    "left of a join": lambda m, s: select(m.t.c.plain).select_from(
        s.join(m.t, s.c.id == m.t.c.id)),
    "right of a join": lambda m, s: select(m.t.c.plain).select_from(m.t.join(s, m.t.c.id == 1)),
    "right of a join, on nothing of it": lambda m, s: select(m.t.c.plain).join(
        s, m.t.c.id == 1),
    "inside of a join": lambda m, s: select(m.a.c.plain).select_from(
        m.a.join(m.t.join(s, m.t.c.id == 1), m.a.c.id == 1)),
    "left, inside of a join": lambda m, s: select(m.a.c.plain).select_from(
        m.a.join(s.join(m.t, m.t.c.id == 1), m.a.c.id == 1)),
    "an alias": lambda _, s: select(s.alias().c.plain),
    "a subquery": lambda _, s: select(select(s.c.plain).subquery().c.plain),
    "a cte": lambda _, s: select(select(s.c.plain).cte().c.plain),
    "a union": lambda m, s: union_all(select(m.t.c.plain), select(s.c.plain)),
    "a union, first": lambda m, s: union_all(select(s.c.plain), select(m.t.c.plain)),
    "exists": lambda m, s: select(m.t.c.plain).where(exists(select(s.c.id))),
    "exists, of a union": lambda m, s: select(m.t.c.plain).where(
        union_all(select(m.a.c.id), select(s.c.id)).exists()),
    "exists, selected": lambda _, s: select(exists(select(s.c.id))),
    "is null": lambda _, s: select(literal(1)).where(s.c.note.is_(None)),
    "is not null": lambda _, s: select(literal(1)).where(s.c.note.is_not(None)),
    "counted": lambda _, s: select(func.count(s.c.note)),
    "counted in having": lambda m, s: select(m.t.c.plain).group_by(m.t.c.plain).having(
        func.count(s.c.note) > 0),
    "stored bytes": lambda _, s: select(type_coerce(s.c.note, LargeBinary)),
    "stored bytes in where": lambda _, s: select(literal(1)).where(
        func.length(type_coerce(s.c.note, LargeBinary)) > 1),
    "whole rows": lambda _, s: select(func.json_array(
        select(s.c.id, s.c.plain).subquery().table_valued())),
    "where": lambda m, s: select(m.t.c.id).where(m.t.c.id == s.c.id),
    "order by": lambda m, s: select(m.t.c.id).order_by(s.c.id),
    "group by": lambda _, s: select(func.count()).group_by(s.c.plain),
    "a cast": lambda _, s: select(cast(s.c.plain, Integer)),
    "a function": lambda _, s: select(func.lower(s.c.plain)),
    "distinct": lambda _, s: select(s.c.plain).distinct(),
    "from_select": lambda m, s: insert(m.t).from_select(["id"], select(s.c.id + 9)),
    "update from": lambda m, s: update(m.t).where(m.t.c.id == s.c.id).values(plain="x"),
    "update, set": lambda m, s: update(m.t).where(m.t.c.id == 1).values(
        plain=select(s.c.plain).scalar_subquery()),
    "delete": lambda m, s: delete(m.t).where(m.t.c.id.in_(select(s.c.id))),
    "upsert, set": lambda m, s: upserting(m, value=select(s.c.plain).scalar_subquery()),
    "upsert, where": lambda m, s: upserting(m, where=m.t.c.id.in_(select(s.c.id))),
    "upsert, case": lambda m, s: upserting(
        m, value=case((m.t.c.id.in_(select(s.c.id)), "y"), else_="z")),
    "returning": lambda m, s: update(m.t).where(m.t.c.id == 1).values(plain="x").returning(
        select(s.c.plain).scalar_subquery()),
}  # fmt: skip

# What holds a scalar subquery: ``s`` selects the column plain.
SCALAR: dict[str, Any] = {
    "selected": lambda _, s: select(s),
    "labelled": lambda _, s: select(s.label("x")),
    "in coalesce": lambda _, s: select(func.coalesce(s, "x")),
    "counted": lambda _, s: select(func.count(s)),
    "where": lambda m, s: select(m.t.c.id).where(m.t.c.plain == s),
    "not": lambda m, s: select(m.t.c.id).where(~(m.t.c.plain == s)),
    "is null": lambda m, s: select(m.t.c.id).where(s.is_(null())),
    "a tuple": lambda m, s: select(m.t.c.id).where(tuple_(m.t.c.plain, s) == tuple_("a", "b")),
    "case": lambda _, s: select(case((s == "x", 1), else_=2)),
    "case, result": lambda m, s: select(case((m.t.c.id == 1, s))),
    "on": lambda m, s: select(m.t.c.id).join(m.a, m.a.c.plain == s),
    "limit": lambda m, s: select(m.t.c.id).limit(func.length(s)),
    "order by": lambda m, s: select(m.t.c.id).order_by(s),
    "over": lambda _, s: select(func.count().over(partition_by=s)),
    "filter": lambda m, s: select(func.count().filter(m.t.c.plain == s)),
    "a function to select from": lambda _, s: select(
        func.json_each(s).table_valued("value").c.value),
    "values": lambda _, s: select(
        values(column("v", String), name="v").data([(s,)]).c.v),
    "inserted": lambda m, s: insert(m.t).values(id=9, plain=s, device_id="d1"),
    "inserted, of many": lambda m, s: insert(m.t).values(
        [{"id": 9, "plain": s, "device_id": "d1"}]),
    "updated": lambda m, s: update(m.t).where(m.t.c.id == 1).values(plain=s),
    "updated where": lambda m, s: update(m.t).where(m.t.c.plain == s).values(plain="x"),
    "deleted where": lambda m, s: delete(m.t).where(m.t.c.plain == s),
    "upserted": lambda m, s: upserting(m, value=func.coalesce(s, "x")),
    "upserted where": lambda m, s: upserting(m, where=m.t.c.plain == s),
    "upserted, case": lambda m, s: upserting(m, value=case((s == "x", "y"), else_="z")),
}  # fmt: skip


def nested(m, holder, place, *, good):
    """The whole statement."""
    m = SimpleNamespace(table=m.table, t=m.table, a=m.table.alias())
    query = inner(m, good=good)
    if holder == "FROM":
        return FROM[place](m, query.subquery())
    return SCALAR[place](m, query.with_only_columns(m.t.c.plain).scalar_subquery())


PLACES = [("FROM", each) for each in FROM] + [("scalar", each) for each in SCALAR]


@pytest.mark.parametrize(("holder", "place"), PLACES)
def test_what_it_must_not_do_is_found_where_it_stands(holder, place, session, models):
    """The same statement without that goes to the database."""
    with pytest.raises(
        UnboundValueError, match=r"kmsenv_pings\.note is encrypted: .*ORDER BY|sort"
    ):
        session.connection().execute(nested(models, holder, place, good=False))
    session.rollback()
    try:
        result = session.connection().execute(nested(models, holder, place, good=True))
    except DBAPIError:
        # SQLite has no such form; it was sent all the same.
        return
    result.close()


LISTED: dict[str, Any] = {
    "by itself": lambda t: select(values(column("v", LargeBinary), name="v").data([(t.c.note,)])),
    "beside the table": lambda t: select(t.c.id).join(
        values(column("v", LargeBinary), name="v").data([(b"x",), (t.c.note,)]).lateral(), true()),
    "a scalar subquery": lambda t: select(
        values(column("v", LargeBinary), name="v").data(
            [(b"x",)]).data([(select(t.c.note).scalar_subquery(),)]).c.v),
    "a subquery": lambda t: select(
        select(values(column("v", LargeBinary), name="v").data([(t.c.note,)])).subquery().c.v),
    "IN": lambda t: select(t.c.id).where(literal(b"x").in_(
        values(column("v", LargeBinary)).data([(t.c.note,)]).scalar_values())),
}  # fmt: skip


@pytest.mark.parametrize("where", LISTED)
def test_values_may_list_no_encrypted_column(where, session, models):
    """It would come out as it is stored, or be compared so."""
    with pytest.raises(UnboundValueError, match=r"kmsenv_pings\.note is encrypted"):
        session.connection().execute(LISTED[where](models.table))
