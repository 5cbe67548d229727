"""The ORM's bulk statements, which write several tables under one ``statement.table``."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, Integer, String, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings


@pytest.fixture
def staff(engine, keyring):
    """Three joined tables, each with a column ``note`` that is encrypted, the parent's scoped."""

    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "kmsenv_bulk_people"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(10), nullable=False)
        tenant = mapped_column(String(10), default="t1", nullable=False)
        note = mapped_column(Encrypted(String, scope=["tenant"]))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Manager(Person):
        __tablename__ = "kmsenv_bulk_managers"
        id = mapped_column(ForeignKey(Person.id), primary_key=True)
        manager_note = mapped_column("note", Encrypted(String))
        rank = mapped_column(Integer)
        __mapper_args__ = {"polymorphic_identity": "manager"}

    class Director(Manager):
        __tablename__ = "kmsenv_bulk_directors"
        id = mapped_column(ForeignKey(Manager.id), primary_key=True)
        director_note = mapped_column("note", Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "director"}

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Person=Person, Manager=Manager, Director=Director)
    Base.metadata.drop_all(engine)


def _row(number: int) -> dict[str, str]:
    return {
        "note": f"person {number}",
        "manager_note": f"manager {number}",
        "director_note": f"director {number}",
    }


def _notes(engine, staff):
    director = staff.Director
    with Session(engine) as session:
        query = select(director.note, director.manager_note, director.director_note)
        return [tuple(row) for row in session.execute(query.order_by(staff.Person.id))]


EXPECTED = [tuple(_row(number).values()) for number in (1, 2)]


@pytest.mark.parametrize("keys", ["given", "generated"])
@pytest.mark.parametrize("way", ["statement", "mappings", "objects"])
def test_bulk_insert_seals_each_table_of_a_hierarchy_for_itself(engine, staff, way, keys):
    """A value sealed for the cell of the same name in another table is lost."""
    rows = [{"id": n, **_row(n)} if keys == "given" else _row(n) for n in (1, 2)]
    with Session(engine) as session:
        if way == "statement":
            session.execute(insert(staff.Director), rows)
        elif way == "mappings":
            session.bulk_insert_mappings(staff.Director, rows)
        else:
            session.bulk_save_objects([staff.Director(**row) for row in rows])
        session.commit()
    assert _notes(engine, staff) == EXPECTED


def test_values_of_a_bulk_statement_go_to_the_table_that_has_the_column(engine, staff):
    """The ORM sorts what ``values()`` sets by table, at each table's statement."""
    director = staff.Director
    rows = [{"id": n, "director_note": _row(n)["director_note"]} for n in (1, 2)]
    with Session(engine) as session:
        statement = insert(director).values(
            {director.note: "same", director.manager_note: "of all", staff.Person.tenant: "t2"}
        )
        session.execute(statement, rows)
        session.commit()
    assert _notes(engine, staff) == [("same", "of all", f"director {n}") for n in (1, 2)]


@pytest.mark.parametrize("way", ["statement", "mappings", "objects"])
def test_bulk_update_seals_each_table_of_a_hierarchy_for_itself(engine, staff, way):
    """As for INSERT; the keys are in the parameters."""
    with Session(engine) as session:
        session.execute(insert(staff.Director), [{"id": n, **_row(n + 5)} for n in (1, 2)])
        session.commit()
        rows = [{"id": n, **_row(n)} for n in (1, 2)]
        if way == "statement":
            session.execute(update(staff.Director), rows)
        elif way == "mappings":
            session.bulk_update_mappings(staff.Director, rows)
        else:
            objects = session.scalars(select(staff.Director).order_by(staff.Person.id)).all()
            for each, row in zip(objects, rows, strict=True):
                for name in row.keys() - {"id"}:
                    setattr(each, name, row[name])
            session.bulk_save_objects(objects)
        session.commit()
    assert _notes(engine, staff) == EXPECTED


@pytest.mark.parametrize("inline", [False, True])
def test_no_update_of_a_subclass_moves_the_parent_away_from_its_values(engine, staff, inline):
    """The scope stands in the parent's table, and ``update(Director)`` names the child's."""
    director = staff.Director
    moving = update(director).values({director.tenant: "t2"}) if inline else update(director)
    row = {"id": 1} if inline else {"id": 1, "tenant": "t2"}
    with Session(engine) as session:
        session.execute(insert(director), [{"id": n, **_row(n)} for n in (1, 2)])
        session.commit()
        with pytest.raises(UnboundValueError, match="bound to, and would leave that value"):
            session.execute(moving, [row])
        session.rollback()
        session.execute(update(director), [{"id": 1, "tenant": "t2", "note": "moved"}])
        session.commit()
    assert _notes(engine, staff) == [("moved", *EXPECTED[0][1:]), EXPECTED[1]]


def test_an_update_of_a_subclass_by_its_key_seals_its_own_column(engine, staff):
    """ORM-enabled, with WHERE: one table is written."""
    with Session(engine) as session:
        session.execute(insert(staff.Director), [{"id": n, **_row(n)} for n in (1, 2)])
        session.execute(
            update(staff.Manager).where(staff.Manager.id == 1).values(manager_note="new", rank=3)
        )
        session.commit()
    assert _notes(engine, staff) == [("person 1", "new", "director 1"), EXPECTED[1]]


def test_bulk_insert_of_a_subclass_returns_what_each_table_holds(engine, staff):
    """The ORM puts the RETURNING of every table side by side."""
    director = staff.Director
    columns = (director.note, director.manager_note, director.director_note)
    if engine.dialect.name == "mysql":
        pytest.skip("SQLAlchemy uses RETURNING of MariaDB with its mariadb dialects only")
    with Session(engine) as session:
        returned = session.execute(
            insert(director).returning(*columns, sort_by_parameter_order=True),
            [{"id": n, **_row(n)} for n in (1, 2)],
        )
        assert [tuple(row) for row in returned] == EXPECTED
        session.commit()
    assert _notes(engine, staff) == EXPECTED
