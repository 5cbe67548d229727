"""Objects that move to another key or scope, with the values that are bound to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import JSON, ForeignKey, Integer, String, event, inspect, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    load_only,
    mapped_column,
    raiseload,
    relationship,
)

from sqlalchemy_kmsenv import Encrypted, WrongCellError, attach_keyrings
from tests.columns.conftest import copy_stored, stored
from tests.conftest import on


@pytest.fixture
def models(engine, database, keyring):
    """Owners with devices: a joined hierarchy, and secrets bound to key, tenant and owner."""
    deferred_check: dict[str, Any] = {"deferrable": True, "initially": "DEFERRED"}
    if database == "mariadb":  # which checks each foreign key at once
        deferred_check = {}

    class Base(DeclarativeBase):
        pass

    class Owner(Base):
        __tablename__ = "kmsenv_owners"
        id = mapped_column(Integer, primary_key=True)
        tenant = mapped_column(String(20), nullable=False)
        kind = mapped_column(String(10), nullable=False)
        name = mapped_column(Encrypted(String, scope=["tenant"]))
        birthday = mapped_column(Encrypted(String), deferred=True)
        remark = mapped_column(Encrypted(String))
        settings = mapped_column(MutableDict.as_mutable(Encrypted(JSON, scope=["tenant"])))
        devices = relationship("Device", back_populates="owner")
        __mapper_args__ = {
            "polymorphic_on": "kind", "polymorphic_identity": "owner", "passive_updates": False
        }  # fmt: skip

    class Company(Owner):
        __tablename__ = "kmsenv_companies"
        id = mapped_column(ForeignKey(Owner.id, **deferred_check), primary_key=True)
        tax_number = mapped_column(Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "company"}

    class Device(Base):
        __tablename__ = "kmsenv_devices"
        id = mapped_column(Integer, primary_key=True)
        owner_id = mapped_column(ForeignKey(Owner.id), nullable=False)
        version = mapped_column(Integer, nullable=False)
        position = mapped_column(Encrypted(String, scope=["owner_id"]))
        owner = relationship(Owner, back_populates="devices")
        __mapper_args__ = {"version_id_col": version}

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Owner=Owner, Company=Company, Device=Device)
    Base.metadata.drop_all(engine)


@pytest.fixture
def session(engine, models):
    """A session with one owner, committed."""
    with Session(engine) as session:
        session.add(
            models.Owner(id=1, tenant="a", name="n", birthday="b", settings={"k": 1}),
        )
        session.commit()
        yield session


def values(session, models, key):
    """What a fresh look at the row gives."""
    session.expunge_all()
    owner = session.get_one(models.Owner, key)
    return owner.tenant, owner.name, owner.birthday, owner.remark, owner.settings


@pytest.mark.parametrize("state", ["loaded", "expired", "half loaded", "detached"])
def test_an_object_that_gets_another_scope_keeps_its_values(state, session, models):
    """Loaded or not, they are sealed for the new scope in the UPDATE that moves the row."""
    owner = session.get_one(models.Owner, 1)
    if state == "expired":
        session.expire(owner)
    elif state == "half loaded":
        session.expunge_all()
        owner = session.scalars(select(models.Owner).options(load_only(models.Owner.tenant))).one()
    elif state == "detached":
        assert owner.birthday == "b"
        session.expunge_all()
        session.add(owner)
    owner.tenant = "b"
    session.commit()
    assert values(session, models, 1) == ("b", "n", "b", None, {"k": 1})


def test_an_object_that_gets_another_key_keeps_its_values(session, models):
    """In the same flush; the columns that were NULL stay NULL."""
    owner = session.get_one(models.Owner, 1)
    owner.id = 2
    session.commit()
    assert inspect(owner).identity == (2,)
    assert values(session, models, 2) == ("a", "n", "b", None, {"k": 1})


def test_moving_is_one_query_and_one_update_of_what_moves(session, models, engine):
    """What is not bound to the tenant stays as it is."""
    owner, table = session.get_one(models.Owner, 1), models.Owner.__table__
    before = stored(session, table.c.birthday), stored(session, table.c.name)
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_, __, statement, *___):
        seen.append(statement.split()[0])

    owner.tenant = "b"
    session.flush()
    assert seen == ["SELECT", "UPDATE"]
    assert stored(session, table.c.birthday) == before[0]
    assert stored(session, table.c.name) != before[1]


def test_a_value_that_is_given_with_the_move_is_the_one_that_is_sealed(session, models):
    """Also where it is None."""
    owner = session.get_one(models.Owner, 1)
    owner.tenant, owner.name, owner.settings = "b", None, {"k": 2}
    session.commit()
    assert values(session, models, 1) == ("b", None, "b", None, {"k": 2})


def test_a_value_that_is_not_loaded_by_itself_moves_too(session, models):
    """Raiseload forbids surprises of the application's own making; this load is needed."""
    session.expunge_all()
    owner = session.scalars(
        select(models.Owner).options(load_only(models.Owner.tenant, raiseload=True))
    ).one()
    owner.tenant = "b"
    session.commit()
    assert values(session, models, 1) == ("b", "n", "b", None, {"k": 1})


@on("postgresql", "mariadb")
def test_a_move_does_not_undo_what_another_transaction_has_written(session, models, engine):
    """The object remembers an older value; the one that is sealed is the database's."""
    owner = session.get_one(models.Owner, 1)
    assert owner.name == "n"
    with Session(engine) as other:
        other.get_one(models.Owner, 1).name = "newer"
        other.commit()
    owner.tenant = "b"
    session.flush()
    assert owner.name == "newer"
    session.commit()
    assert values(session, models, 1)[:2] == ("b", "newer")


def test_a_damaged_value_stops_the_move(session, models, engine):
    """Sealing it again for the new scope would hide that it was not its own."""
    with Session(engine) as other:
        other.add(models.Owner(id=5, tenant="a", name="foreign"))
        other.commit()
        copy_stored(other.connection(), models.Owner.__table__, "name", source=5, target=1)
        other.commit()
    owner = session.get_one(models.Owner, 1, options=[load_only(models.Owner.tenant)])
    owner.tenant = "b"
    with pytest.raises(WrongCellError):
        session.flush()


def test_mutable_values_are_still_watched_after_a_move(session, models):
    """Loading for the move leaves the attribute what it was."""
    owner = session.get_one(models.Owner, 1)
    session.expire(owner)
    owner.tenant = "b"
    session.flush()
    owner.settings["k"] = 3
    session.commit()
    assert values(session, models, 1)[-1] == {"k": 3}


def test_a_relationship_that_changes_the_scope_takes_the_value_along(session, models):
    """The flush writes the foreign key itself, and counts the version on."""
    other = models.Owner(tenant="z", name="other", id=7)
    device = models.Device(position="p", owner=session.get_one(models.Owner, 1))
    session.add_all([other, device])
    session.commit()
    device.owner = other
    session.commit()
    session.expunge_all()
    device = session.scalars(select(models.Device).options(raiseload("*"))).one()
    assert (device.owner_id, device.position, device.version) == (7, "p", 2)


@on("sqlite", "postgresql")
def test_a_row_of_several_tables_moves_in_all_of_them(session, models):
    """The key of the joined table follows, and its values with it."""
    session.add(models.Company(id=3, tenant="a", name="n", tax_number="t"))
    session.commit()
    company = session.get_one(models.Company, 3)
    company.id = 4
    session.commit()
    session.expunge_all()
    company = session.get_one(models.Company, 4)
    assert (company.name, company.tax_number) == ("n", "t")
