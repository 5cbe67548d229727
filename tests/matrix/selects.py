"""SELECT, and everything that reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, distinct, exists, func, or_, select, text, union, union_all
from sqlalchemy.orm import Bundle, aliased, defer, load_only, undefer

from tests.matrix.registry import shape
from tests.matrix.worlds import World

SECTION = "SELECT"


def _secret(w: World) -> Any:
    return w.model.table.c[w.model.table_encrypted[0]]


def _keys(w: World) -> list[Any]:
    return [w.model.table.c[name] for name in w.model.key]


def _note(w: World, query: Any) -> None:
    w.note(w.session.execute(query))


@shape(SECTION, "select(Note), select(Note.text), session.get(), refresh()")
def select_entity(w: World) -> None:
    """Wherever the column comes with its row."""
    entity = w.model.entity
    _note(w, select(entity).order_by(entity.name))
    columns = [getattr(entity, name) for name in w.model.encrypted]
    _note(w, select(*columns).order_by(entity.name))
    one = w.load(2)
    w.session.refresh(one)
    w.note_objects([one])


@shape(SECTION, "select(t), select(t.c.text), labels")
def select_core(w: World) -> None:
    """Likewise in Core."""
    _note(w, select(w.model.table).order_by(*_keys(w)))
    _note(w, select(_secret(w).label("n")).order_by(*_keys(w)))


@shape(SECTION, "defer(), undefer(), load_only(), Bundle")
def select_options(w: World) -> None:
    """A deferred column is loaded with its row."""
    entity = w.model.entity
    column = getattr(entity, w.model.encrypted[0])
    one = w.session.scalars(select(entity).options(defer(column)).order_by(entity.name)).first()
    w.seen.append(getattr(one, w.model.encrypted[0]))
    w.session.expunge_all()
    for option in (load_only(column), undefer(column)):
        found = w.session.scalars(select(entity).options(option).order_by(entity.name)).all()
        w.seen.append([getattr(each, w.model.encrypted[0]) for each in found])
        w.session.expunge_all()
    _note(w, select(Bundle("b", entity.name, column)).order_by(entity.name))


@shape(SECTION, "aliases, joins of two of them")
def select_joined(w: World) -> None:
    """Each has its own row."""
    entity = w.model.entity
    other = aliased(entity)
    name = w.model.encrypted[0]
    query = select(getattr(entity, name), getattr(other, name))
    query = query.outerjoin(other, other.name > entity.name)
    _note(w, query.order_by(entity.name, other.name))


@shape(SECTION, "subqueries and CTEs that carry the key")
def select_carried(w: World) -> None:
    """The subquery selects what names the row."""
    for inner in (select(w.model.table).subquery(), select(w.model.table).cte()):
        columns = [inner.c[name] for name in w.model.table_encrypted]
        _note(w, select(*columns).order_by(*(inner.c[name] for name in w.model.key)))


@shape(SECTION, "select(select(t.c.text).subquery().c.text)  # without the key")
def select_not_carried(w: World) -> None:
    """Nothing says which row the value is in."""
    _note(w, select(select(_secret(w).label("v")).subquery().c.v))


@shape(SECTION, "t.c.text.is_(None), is_not(None), func.count(t.c.text), exists(select(t.c.text))",
       fits=lambda d: d.values != "none")  # fmt: skip
def select_null(w: World) -> None:
    """NULL is visible; None is NULL, of JSON too, of which a plain column makes a JSON null."""
    column = _secret(w)
    _note(w, select(func.count(column)).where(or_(column.is_not(None), column.is_(None))))
    _note(w, select(exists(select(column).where(column.is_not(None)))))


@shape(SECTION, "func.count(t.c.text) + 1, HAVING, ORDER BY, FILTER, OVER of it",
       fits=lambda d: (d.inner, d.values) != ("json", "none"))  # fmt: skip
def select_count(w: World) -> None:
    """A number of values tells nothing of them."""
    column, name = _secret(w), _keys(w)[0]
    _note(w, select(func.count(column) + 1))
    _note(w, select(func.coalesce(func.count(column), 0)))
    _note(w, select(name).group_by(name).having(func.count(column) > 0).order_by(name))
    _note(w, select(name).group_by(name).order_by(func.count(column), name))
    _note(w, select(func.count(column).over(), name).order_by(name))


@shape(SECTION, "select(t.c.id, t.c.text).distinct(), union_all(...) of one column")
def select_distinct(w: World) -> None:
    """The key tells rows apart."""
    query = select(*_keys(w), *(w.model.table.c[name] for name in w.model.table_encrypted))
    for each in (query.distinct(), union_all(query, query)):
        w.seen.append(sorted(map(repr, w.session.execute(each).all())))


@shape(SECTION, "select(t).distinct(), union(select(t), select(t))  # with scope and identity")
def select_distinct_rows(w: World) -> None:
    """Everything that names a row is there."""
    query = select(w.model.table)
    for each in (union_all(query, query), select(union_all(query, query).subquery())):
        w.seen.append(sorted(map(repr, w.session.execute(each).all())))


@shape(SECTION, "select(t.c.text).distinct()  # without the key")
def select_distinct_alone(w: World) -> None:
    """Two envelopes of one value differ."""
    w.seen.append(sorted(map(repr, w.session.execute(select(_secret(w)).distinct()).all())))


@shape(SECTION, "union(select(t.c.text), select(t.c.text))  # without the key")
def select_union_alone(w: World) -> None:
    """Likewise."""
    query = select(_secret(w))
    w.seen.append(sorted(map(repr, w.session.execute(union(query, query)).all())))


@shape(SECTION, "union_all(select(t.c.id, t.c.text), select(t.c.id, t.c.other))",
       fits=lambda d: d.layout == "three")  # fmt: skip
def select_union_of_columns(w: World) -> None:
    """The values of two columns cannot be told apart."""
    parts = [select(*_keys(w), w.model.table.c[name]) for name in w.model.table_encrypted[:2]]
    w.seen.append(sorted(map(repr, w.session.execute(union_all(*parts)).all())))


@shape(SECTION, "==, !=, <, in_(), like(), between(), + and every other operator")
def select_compared(w: World) -> None:
    """Refused when it is built."""
    _note(w, select(w.model.table).where(_secret(w) == w.model.secret(1)))


@shape(SECTION, "t.c.text == t.c.other", fits=lambda d: d.layout == "three" and d.inner == "str")
def select_two_compared(w: World) -> None:
    """Refused before it is sent: SQLAlchemy itself compares columns."""
    first, second, *_ = (w.model.table.c[name] for name in w.model.table_encrypted)
    _note(w, select(*_keys(w)).where(first == second))


@shape(SECTION, "order_by(t.c.text), by label too", fits=lambda d: d.inner != "json")
def select_ordered(w: World) -> None:
    """Refused before it is sent."""
    w.session.execute(select(_secret(w).label("n")).order_by("n")).all()


@shape(SECTION, "group_by(t.c.text), over(partition_by=...)", fits=lambda d: d.inner != "json")
def select_grouped(w: World) -> None:
    """Likewise."""
    w.session.execute(select(func.count()).group_by(_secret(w))).all()


@shape(SECTION, "func.lower(t.c.text), cast(), case(), coalesce(), count(distinct(...))",
       fits=lambda d: d.inner != "json")  # fmt: skip
def select_computed(w: World) -> None:
    """They would work on envelopes."""
    w.session.execute(select(case((_keys(w)[0].is_not(None), _secret(w))))).all()
    w.session.execute(select(func.count(distinct(_secret(w))))).all()


@shape(SECTION, "select(t.c.text).where(...).scalar_subquery()")
def select_scalar(w: World) -> None:
    """The inner SELECT has the row."""
    inner = select(_secret(w)).where(w.is_row(1)).scalar_subquery()
    _note(w, select(inner))
    _note(w, select(w.model.table.c[w.model.key[0]], inner).order_by(*_keys(w)))


@shape(SECTION, "session.connection().execution_options(stream_results=True, yield_per=1)")
def select_streamed(w: World) -> None:
    """Row by row."""
    query = select(w.model.entity).order_by(w.model.entity.name)
    w.note(w.session.execute(query.execution_options(yield_per=1)))


@shape(SECTION, 'select(Note).from_statement(text("..."))')
def select_from_text(w: World) -> None:
    """The text does not say which row a value is in."""
    sql = str(select(w.model.table).compile(w.session.get_bind())).split("FROM", 1)[1]
    w.session.scalars(select(w.model.entity).from_statement(text(f"SELECT * FROM{sql}"))).all()
