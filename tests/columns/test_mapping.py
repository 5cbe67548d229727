"""Mapped names, inheritance, merge and the bulk methods of a session."""

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, Table, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, with_polymorphic

from sqlalchemy_kmsenv import Encrypted, attach_keyrings


@pytest.fixture
def classes(engine, keyring):
    """Joined inheritance whose attributes, keys and columns all have different names."""

    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "kmsenv_parents"
        pid = mapped_column("id", Integer, primary_key=True, autoincrement=False)
        tenant = mapped_column("tenant_id", String(20), nullable=False)
        kind = mapped_column(String(10), nullable=False)
        sec = mapped_column("secret", Encrypted(String, scope=["tenant_id"]))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "parent"}

    class Child(Parent):
        __tablename__ = "kmsenv_children"
        cid = mapped_column(ForeignKey("kmsenv_parents.id"), primary_key=True)
        own = mapped_column(Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "child"}

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield Parent, Child
    Base.metadata.drop_all(engine)


def test_joined_inheritance_merge_and_bulk_methods_bind(engine, classes):
    """Each table of a hierarchy binds its own columns to its own key."""
    Parent, Child = classes
    with Session(engine) as session:
        session.add_all([Child(pid=1, tenant="a", sec="s1", own="o1")])
        session.add_all([Parent(pid=2, tenant="b", sec="s2")])
        session.commit()
        child = session.get_one(Child, 1)
        child.sec, child.own = "n1", "n2"
        session.commit()
        session.expunge_all()
        everyone = with_polymorphic(Parent, [Child])
        loaded = session.scalars(select(everyone).order_by(everyone.pid)).all()
        assert [(row.sec, getattr(row, "own", None)) for row in loaded] == [
            ("n1", "n2"), ("s2", None),
        ]  # fmt: skip
        session.merge(Child(pid=1, tenant="a", sec="merged", own="merged too"))
        session.bulk_update_mappings(Parent, [{"pid": 2, "sec": "bulk"}])
        session.bulk_insert_mappings(
            Parent, [{"pid": 3, "tenant": "c", "kind": "parent", "sec": "inserted"}]
        )
        session.bulk_save_objects([Parent(pid=4, tenant="c", sec="saved")])
        session.commit()
        secrets = session.scalars(select(Parent.sec).order_by(Parent.pid)).all()
        assert secrets == ["merged", "bulk", "inserted", "saved"]


def test_an_object_takes_its_values_to_another_tenant(engine, classes):
    """Otherwise they would stay sealed for the tenant that the row has left."""
    Parent, _ = classes
    with Session(engine) as session:
        session.add(Parent(pid=1, tenant="a", sec="s"))
        session.commit()
        parent = session.get_one(Parent, 1)
        parent.tenant = "b"
        session.commit()
        assert session.scalars(select(Parent.sec)).all() == ["s"]
        parent.tenant, parent.sec = "c", "sealed again"
        session.commit()
        assert session.scalars(select(Parent.sec)).all() == ["sealed again"]


def test_column_keys_that_differ_from_names_bind(engine, metadata, keyring):
    """Parameters go by key, the database by name."""
    table = Table(
        "kmsenv_keyed",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False, key="ident"),
        Column("t", String(9), nullable=False, key="tenant"),
        Column("v", Encrypted(String, scope=["tenant"]), key="value"),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"ident": 1, "tenant": "x", "value": "v"}])
        named = update(table).where(table.c.ident == 1)
        connection.execute(named, {"value": "w"})
        assert connection.execute(select(table)).all() == [(1, "x", "w")]
        connection.execute(named.values(value="moved"), {"tenant": "y"})
        assert connection.execute(select(table)).all() == [(1, "y", "moved")]
