"""Columns compared with columns: the expression is built, and no statement with it is sent."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    lateral,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import aliased, with_loader_criteria

from sqlalchemy_kmsenv import Encrypted, UnboundValueError

T = Table(
    "t", MetaData(), Column("id", Integer, primary_key=True), Column("v", Encrypted(String)),
    Column("plain", String(10)), Column("w", Encrypted(String)),
)  # fmt: skip


def clause(target: Any) -> Any:
    """The column itself: in 2.0.36, in_() takes no mapped attributes."""
    return target.__clause_element__() if hasattr(target, "__clause_element__") else target


COMPARISONS: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda left, right: left.in_([clause(right)]),
    "not in": lambda left, right: left.not_in([clause(left), clause(right)]),
}
SIDES: dict[str, Any] = {
    "itself": lambda p: (p.note, p.note),
    "another": lambda p: (p.note, p.secret),
    "plain": lambda p: (p.note, p.plain),
    "plain before": lambda p: (p.plain, p.note),
    "of another row": lambda p: (p.note, aliased(p).note),
    "a function": lambda p: (p.note, func.lower(p.plain)),
}
PLACES: dict[str, Any] = {
    "selected": lambda _, c: select(c),
    "where": lambda p, c: select(p.id).where(c),
    "and": lambda p, c: select(p.id).where((p.id == 1) & ~(c | p.plain.is_(None))),
    "having": lambda p, c: select(p.id).group_by(p.id).having(c),
    "order by": lambda p, c: select(p.id).order_by(c),
    "group by": lambda _, c: select(func.count()).group_by(c),
    "join": lambda p, c: select(p.id).join(aliased(p), c),
    "case": lambda _, c: select(case((c, 1), else_=2)),
    "function": lambda p, c: select(func.coalesce(c, p.id)),
    "filter": lambda p, c: select(func.count(p.id).filter(c)),
    "over": lambda _, c: select(func.row_number().over(partition_by=c)),
    "count": lambda _, c: select(func.count(c)),
    "limit": lambda p, c: select(p.id).limit(select(func.count()).where(c).scalar_subquery()),
    "subquery": lambda p, c: select(select(p.id).where(c).subquery()),
    "cte": lambda p, c: select(select(p.id).where(c).cte()),
    "lateral": lambda p, c: select(lateral(select(p.id).where(c))),
    "exists": lambda p, c: select(p.id).where(exists().where(c)),
    "in a subquery": lambda p, c: select(p.id).where(p.id.in_(select(p.id).where(c))),
    "union": lambda p, c: union_all(select(p.id), select(p.id).where(c)),
    "criteria": lambda p, c: select(p).options(with_loader_criteria(p, c)),
    "delete": lambda p, c: delete(p.__table__).where(exists().where(c)),
    "update": lambda p, c: update(p.__table__).where(c).values(plain="x"),
    "updated": lambda p, c: update(p).values(plain=case((c, "a"), else_="b")),
    "inserted": lambda p, c: insert(p).values(id=5, plain=case((c, "a"), else_="b")),
    "returning": lambda p, c: delete(p.__table__).returning(case((c, 1))),
}


@pytest.mark.filterwarnings("ignore:.*cartesian product")
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("comparison", COMPARISONS)
def test_two_columns_that_are_compared_are_refused_in_every_place(
    comparison, sides, models, session, statements
):
    """An envelope equals nothing, so a condition of this kind would be false without a word."""
    for place, statement in PLACES.items():
        compared = COMPARISONS[comparison](*SIDES[sides](models.Ping))
        built = statement(models.Ping, compared)
        with pytest.raises(UnboundValueError, match="would compare nothing"):
            session.execute(built)
        assert statements == [], place


def test_python_finds_columns_in_lists_as_it_finds_plain_ones():
    """SQLAlchemy, and whoever asks for all columns but these, go by ``in``."""
    encrypted = [T.c.v, T.c.w]
    assert [column.key for column in T.c if column not in encrypted] == ["id", "plain"]
    assert [list(T.c).index(column) for column in T.c] == [0, 1, 2, 3]
    rest = list(T.c)
    rest.remove(T.c.w)
    assert T.c.w not in rest
    assert T.c.v in rest
    assert T.alias().c.v not in rest
    assert T.c.v not in [func.lower(T.c.plain), literal(1).label("one")]
    assert bool(T.c.v != T.c.w)
    assert not bool(T.c.v == T.c.w)


REFUSED: dict[str, Any] = {
    "==": lambda c: c == "x",
    "!=": lambda c: c != literal("x"),
    "in_()": lambda c: c.in_([c, "x"]),
    "not_in()": lambda c: c.not_in([]),
    "<": lambda c: c < "x",
    "between()": lambda c: c.between("a", "b"),
    "like()": lambda c: c.like("x%"),
    "contains()": lambda c: c.contains("x"),
    "regexp_match()": lambda c: c.regexp_match("x"),
    "+": lambda c: 1 + c,
    "-": lambda c: -c,
    "~": lambda c: ~c,
    "[...]": lambda c: c["x"],
    "is_()": lambda c: c.is_(True),
    "is_distinct_from()": lambda c: c.is_distinct_from("x"),
    "desc()": lambda c: c.desc(),
    "distinct()": lambda c: c.distinct(),
    "collate()": lambda c: c.collate("binary"),
    "@>": lambda c: c.op("@>")("x"),
}


@pytest.mark.parametrize("operator", REFUSED)
def test_an_operator_with_a_value_is_refused_when_it_is_built(operator):
    """Named as it was written, with what it would have done and what to do instead."""
    with pytest.raises(UnboundValueError, match=r"t\.v is encrypted: .*application") as caught:
        REFUSED[operator](T.c.v)
    assert f"{operator} " in str(caught.value)


def test_operators_differ_in_what_they_advise():
    """Whoever sorts needs other words than whoever searches."""
    told = set()
    for build in REFUSED.values():
        with pytest.raises(UnboundValueError) as caught:
            build(T.c.v)
        told.add(str(caught.value).rpartition(". ")[2])
    assert len(told) >= 8


IN_PLACES: dict[str, tuple[Any, str]] = {
    "ORDER BY": (lambda n: select(n.t.c.id).order_by(n.t.c.note), "Order by a plain column"),
    "GROUP BY": (lambda n: select(n.t.c.id).group_by(n.t.c.note), "Group by a plain column"),
    "CASE": (
        lambda n: select(n.t.c.id).order_by(case((n.t.c.id == 1, n.t.c.note))),
        "choose in the application",
    ),
    "a cast": (lambda n: select(cast(n.t.c.note, String)), "convert in the application"),
    "lower()": (lambda n: select(func.lower(n.t.c.note)), "compute in the application"),
    "value of another": (lambda n: update(n.t).values(plain=n.t.c.note), "and write it there"),
    "+": (lambda n: select(n.t.c.id).order_by(n.t.c.id + n.t.c.note), "write what comes out"),
    "distinct()": (lambda n: select(func.count(func.distinct(n.t.c.note))), "in the application"),
}


@pytest.mark.parametrize("place", IN_PLACES)
def test_a_place_says_what_to_do_there_instead(place, models, session, statements):
    """Refused when the statement is looked through, before any of it is sent."""
    statement, advice = IN_PLACES[place]
    with pytest.raises(UnboundValueError, match=advice):
        session.execute(statement(SimpleNamespace(t=models.table)))
    assert statements == []
