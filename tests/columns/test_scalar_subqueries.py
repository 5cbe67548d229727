"""Scalar subqueries of one encrypted column, in Core, in the ORM, and as column_property."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    ForeignKey,
    Integer,
    String,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    aliased,
    column_property,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, WrongCellError, attach_keyrings
from tests.columns.conftest import copy_stored
from tests.conftest import on


@pytest.fixture
def shop(engine, keyring) -> Iterator[SimpleNamespace]:
    """Two customers, the first with two notes, one of them urgent; a third without any."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_notes"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        customer_id = mapped_column(ForeignKey("kmsenv_customers.id"))
        tenant = mapped_column(String(9), nullable=False)
        kind = mapped_column(String(9), nullable=False)
        text = mapped_column(Encrypted(String))
        secret = mapped_column(Encrypted(String, scope=["tenant"]))
        __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "note"}

    class Urgent(Note):
        __mapper_args__ = {"polymorphic_identity": "urgent"}

    class Customer(Base):
        __tablename__ = "kmsenv_customers"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        name = mapped_column(Encrypted(String))
        notes = relationship(Note, order_by=Note.id)
        latest = column_property(
            select(Note.text)
            .where(Note.customer_id == id)  # noqa: A003  the column above
            .order_by(Note.id.desc())
            .limit(1)
            .correlate_except(Note)
            .scalar_subquery()
        )

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Customer(id=n, name=f"c{n}") for n in (1, 2, 3))
        session.flush()
        for n, customer, kind in ((1, 1, Note), (2, 1, Urgent), (3, 2, Note)):
            session.add(
                kind(id=n, customer_id=customer, tenant=f"t{n}", text=f"n{n}", secret=f"s{n}")
            )
        session.commit()
        yield SimpleNamespace(Note=Note, Urgent=Urgent, Customer=Customer, session=session)
    Base.metadata.drop_all(engine)


def latest(shop: Any, column: Any) -> Any:
    """Of each customer of the statement around it."""
    by_customer = select(column).where(shop.Note.customer_id == shop.Customer.id)
    return by_customer.order_by(shop.Note.id.desc()).limit(1).scalar_subquery()


READS = {
    "core": lambda s: select(
        s.Customer.__table__.c.id, latest(s, s.Note.__table__.c.text).label("x")
    ),
    "orm": lambda s: select(s.Customer.id, latest(s, s.Note.text)),
    "property": lambda s: select(s.Customer.id, s.Customer.latest),
    "of an alias": lambda s: select((a := aliased(s.Customer)).id, a.latest),
    "an alias inside": lambda s: select(
        s.Customer.id,
        select((n := aliased(s.Note)).text).where(n.customer_id == s.Customer.id)
        .order_by(n.id.desc()).limit(1).scalar_subquery(),
    ),
    "a subquery inside": lambda s: select(
        s.Customer.id,
        select((n := select(s.Note.__table__).subquery()).c.text)
        .where(n.c.customer_id == s.Customer.id).order_by(n.c.id.desc())
        .limit(1).scalar_subquery(),
    ),
    "twice nested": lambda s: select(
        s.Customer.id, select(
            select(s.Note.text).where(s.Note.customer_id == s.Customer.id)
            .order_by(s.Note.id.desc()).limit(1).correlate(s.Customer).scalar_subquery()
        ).scalar_subquery()
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", READS)
def test_the_inner_select_has_the_row(shape, shop):
    """The latest note of each customer; None where there is none, as without encryption."""
    found = {tuple(row) for row in shop.session.execute(READS[shape](shop))}
    assert found == {(1, "n2"), (2, "n3"), (3, None)}


def test_entities_carry_their_property(shop):
    """Loaded with the object, refreshed, by eager loading and by get()."""
    Customer, session = shop.Customer, shop.session
    everyone = select(Customer).order_by(Customer.id)
    assert [c.latest for c in session.scalars(everyone)] == ["n2", "n3", None]
    session.execute(update(shop.Note).where(shop.Note.id == 2).values(text="new"))
    session.expire_all()
    assert session.get(Customer, 1).latest == "new"
    for option in (joinedload(Customer.notes), selectinload(Customer.notes)):
        session.expire_all()
        eager = select(Customer).options(option).order_by(Customer.id)
        assert session.scalars(eager).unique().first().latest == "new"


def test_scopes_and_other_columns_beside_it_are_opened(shop):
    """Each by its own binding, several in one statement."""
    statement = select(
        shop.Customer.name, latest(shop, shop.Note.secret), latest(shop, shop.Note.text)
    )
    found = shop.session.execute(statement.order_by(shop.Customer.id)).all()
    assert found == [("c1", "s2", "n2"), ("c2", "s3", "n3"), ("c3", None, None)]


def test_the_criteria_of_an_inner_entity_stay(shop):
    """Single-table inheritance, and criteria that an application adds everywhere."""
    urgent = select(shop.Urgent.text).order_by(shop.Urgent.id).limit(1).scalar_subquery()
    assert shop.session.scalar(select(urgent)) == "n2"
    criteria = with_loader_criteria(shop.Note, shop.Note.id == 1)
    statement = select(shop.Customer.id, latest(shop, shop.Note.text)).options(criteria)
    assert sorted(map(tuple, shop.session.execute(statement)))[0] == (1, "n1")


def test_a_moved_value_is_refused_there_too(shop):
    """The row is the one of the inner SELECT."""
    copy_stored(shop.session.connection(), shop.Note.__table__, "text", source=1, target=2)
    shop.session.expire_all()
    with pytest.raises(WrongCellError, match=r"kmsenv_notes\.text, row \(2\)"):
        shop.session.execute(READS["orm"](shop)).all()


@on("sqlite", "postgresql")
def test_returning_reads_it(shop):
    """What a row is returned with may be from another one."""
    first = select(shop.Note.__table__.c.text).where(shop.Note.__table__.c.id == 1)
    table = shop.Customer.__table__
    statement = delete(table).where(table.c.id == 3).returning(first.scalar_subquery())
    assert shop.session.connection().execute(statement).scalar() == "n1"


REFUSED = {
    "distinct": lambda s: select(latest(s, s.Note.text)).distinct(),
    "distinct with the key": lambda s: select(s.Customer.id, latest(s, s.Note.text)).distinct(),
    "union": lambda s: union_all(
        select(s.Customer.id, latest(s, s.Note.text)), select(s.Note.id, s.Note.text)
    ),
    "union with plain": lambda s: union_all(
        select(s.Note.kind), select(latest(s, s.Note.text))
    ),
    "order by": lambda s: select(s.Customer.id).order_by(latest(s, s.Note.text)),
    "order by label": lambda s: select(latest(s, s.Note.text).label("x")).order_by("x"),
    "group by": lambda s: select(func.count()).group_by(latest(s, s.Note.text)),
    "where": lambda s: select(s.Customer.id).where(s.Customer.id == latest(s, s.Note.text)),
    "function": lambda s: select(func.coalesce(latest(s, s.Note.text), "x")),
    "inner function": lambda s: select(
        select(func.max(s.Note.text)).where(s.Note.id > 0).scalar_subquery()
    ),
    "inner order": lambda s: select(
        select(s.Note.text).order_by(s.Note.text).limit(1).scalar_subquery()
    ),
    "inner union": lambda s: select(
        union_all(select(s.Note.text), select(s.Note.text)).scalar_subquery()
    ),
    "inner distinct": lambda s: select(select(s.Note.text).distinct().scalar_subquery()),
    "in a subquery": lambda s: select(
        select(s.Customer.id, latest(s, s.Note.text).label("x")).subquery().c.x
    ),
    "in a subquery with its key": lambda s: select(
        select(s.Note.id, latest(s, s.Note.text).label("x"))
        .join(s.Customer, s.Customer.id == s.Note.customer_id).subquery().c.x
    ),
    "in a cte": lambda s: select(select(latest(s, s.Note.text).label("x")).cte().c.x),
    "into a table": lambda s: insert(s.Note.__table__).from_select(
        ["id", "kind"], select(s.Customer.id, latest(s, s.Note.text))
    ),
    "the value of a column": lambda s: update(s.Note.__table__).values(
        kind=select(s.Note.__table__.alias().c.text).limit(1).scalar_subquery()
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", REFUSED)
def test_elsewhere_it_is_refused_before_it_is_sent(shape, shop):
    """Nothing is sorted, compared or copied as an envelope, nor read without its row."""
    with pytest.raises(UnboundValueError, match="encrypted"):
        shop.session.execute(REFUSED[shape](shop)).all()


def test_whether_a_subquery_has_a_value_is_asked_inside_of_it(shop):
    """As the refusal says; outside, its value is one that the database computed."""
    outside = select(shop.Customer.id).where(shop.Customer.latest.is_not(None))
    with pytest.raises(UnboundValueError, match=r"for a subquery, inside of it, under exists\(\)"):
        shop.session.scalars(outside)
    written = select(shop.Note.id).where(
        shop.Note.customer_id == shop.Customer.id, shop.Note.text.is_not(None)
    )
    inside = select(shop.Customer.id).where(written.exists()).order_by(shop.Customer.id)
    assert shop.session.scalars(inside).all() == [1, 2]
