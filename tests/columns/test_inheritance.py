"""Encrypted columns on parents, children, mixins and abstract bases, read through each of them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    case,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    declared_attr,
    joinedload,
    mapped_column,
    polymorphic_union,
    relationship,
    selectin_polymorphic,
    selectinload,
    with_polymorphic,
)

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, WrongCellError, attach_keyrings
from tests.columns.conftest import overwrite, stored


class Base(DeclarativeBase):
    pass


class Named:
    """A mixin with a column of a fixed and one of a computed type."""

    nickname = mapped_column(Encrypted(String))

    @declared_attr
    def motto(cls) -> Mapped[str | None]:  # noqa: N805  SQLAlchemy calls it with the class
        """Scoped by the kind, which SQLAlchemy fills in by itself."""
        return mapped_column(Encrypted(String, scope=["kind"]))

    @declared_attr.directive
    def __mapper_args__(cls: type[Any]) -> dict[str, Any]:  # noqa: N805
        """One identity a class."""
        arguments: dict[str, Any] = {"polymorphic_identity": cls.__name__.lower()}
        if Base in cls.__bases__:
            arguments["polymorphic_on"] = "kind"
        return arguments


class Vessel(Named, Base):
    """Single table; two children share a column, one has another of its own."""

    __tablename__ = "kmsenv_in_vessels"
    id = mapped_column(Integer, primary_key=True)
    kind = mapped_column(String(10), nullable=False)
    name = mapped_column(Encrypted(String))


class Ship(Vessel):
    crew = mapped_column(Encrypted(Integer), nullable=True)
    deck = mapped_column(Encrypted(String), nullable=True, use_existing_column=True)


class Ferry(Vessel):
    deck = mapped_column(Encrypted(String), nullable=True, use_existing_column=True)


class Liner(Ship):
    line = mapped_column(Encrypted(String), nullable=True)


class Company(Base):
    """What staff belong to."""

    __tablename__ = "kmsenv_in_companies"
    id = mapped_column(Integer, primary_key=True)
    name = mapped_column(Encrypted(String))
    staff = relationship("Worker", back_populates="company", order_by="Worker.id")


class Worker(Named, Base):
    """Joined tables, three levels deep; the children's tables have keys that are foreign."""

    __tablename__ = "kmsenv_in_workers"
    id = mapped_column(Integer, primary_key=True)
    kind = mapped_column(String(10), nullable=False)
    company_id = mapped_column(ForeignKey(Company.id), nullable=False)
    name = mapped_column(Encrypted(String, scope=["company_id"]))
    company = relationship(Company, back_populates="staff")


class Coder(Worker):
    __tablename__ = "kmsenv_in_coders"
    id = mapped_column(ForeignKey(Worker.id), primary_key=True)
    language = mapped_column(Encrypted(String))


class Manager(Worker):
    __tablename__ = "kmsenv_in_managers"
    manager_id = mapped_column("id", ForeignKey(Worker.id), primary_key=True)
    bonus = mapped_column(Encrypted(Integer))
    perks = relationship("Perk", order_by="Perk.id", cascade="all, delete-orphan")


class Director(Manager):
    __tablename__ = "kmsenv_in_directors"
    director_id = mapped_column("id", ForeignKey(Manager.manager_id), primary_key=True)
    car = mapped_column(Encrypted(String))


class Temp(Worker):
    """A single-table child in a hierarchy of joined tables."""

    until = mapped_column(Encrypted(String), nullable=True)


class Perk(Base):
    __tablename__ = "kmsenv_in_perks"
    id = mapped_column(Integer, primary_key=True)
    manager_id = mapped_column(ForeignKey(Manager.manager_id), nullable=False)
    what = mapped_column(Encrypted(String, scope=["manager_id"]))


class Keyed(Base):
    """Abstract: tables that take it have a key of their own, and a default of the parent's."""

    __abstract__ = True
    __table_args__ = (UniqueConstraint("code"),)
    id = mapped_column(Integer, primary_key=True)
    code = mapped_column(String(10))
    token = mapped_column(Encrypted(String))


class Door(Keyed):
    __tablename__ = "kmsenv_in_doors"


class Gate(Keyed):
    __tablename__ = "kmsenv_in_gates"
    token = mapped_column(Encrypted(Integer))


@pytest.fixture
def session(engine, keyring):
    """A session on empty tables of each database."""
    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    Base.metadata.drop_all(engine)


@pytest.fixture
def staff(session):
    """One worker of each class in two companies."""
    for n, name in enumerate(("acme", "bolt")):
        session.add(
            Company(
                name=name,
                staff=[
                    Worker(name=f"w{n}", nickname="n", motto="m"),
                    Coder(name=f"c{n}", language="py", motto="c"),
                    Manager(name=f"m{n}", bonus=n, perks=[Perk(what="car"), Perk(what="key")]),
                    Director(name=f"d{n}", bonus=10 + n, car="big", perks=[Perk(what="jet")]),
                    Temp(name=f"t{n}", until="june"),
                ],
            )
        )
    session.commit()
    session.expunge_all()
    return session


def table(model: Any) -> Any:
    """The table of a mapped class, as one that has columns of any kind."""
    return model.__table__


OWN = ("language", "bonus", "car", "until")
STAFF = {
    **{f"w{n}": {} for n in range(2)},
    **{f"c{n}": {"language": "py"} for n in range(2)},
    **{f"m{n}": {"bonus": n} for n in range(2)},
    **{f"d{n}": {"bonus": 10 + n, "car": "big"} for n in range(2)},
    **{f"t{n}": {"until": "june"} for n in range(2)},
}


def described(workers: Any) -> dict[str, dict[str, Any]]:
    """What was loaded, in the shape in which it was given."""
    return {
        worker.name: {name: getattr(worker, name) for name in OWN if hasattr(worker, name)}
        for worker in workers
    }


# --- single table --------------------------------------------------------------------------


def test_children_of_one_table_have_columns_of_their_own_and_shared_ones(session):
    """Saved in one flush, read through the parent, the child and the grandchild."""
    session.add_all([
        Vessel(name="v", nickname="nv", motto="mv"), Ship(name="s", crew=3, deck="ds"),
        Ferry(name="f", deck="df", motto="mf"), Liner(name="l", crew=9, deck="dl", line="x"),
    ])  # fmt: skip
    session.commit()
    session.expunge_all()
    found = {each.name: each for each in session.scalars(select(Vessel))}
    assert (found["v"].nickname, found["v"].motto) == ("nv", "mv")
    assert (found["s"].crew, found["s"].deck) == (3, "ds")
    assert (found["f"].deck, found["f"].motto) == ("df", "mf")
    assert (found["l"].crew, found["l"].deck, found["l"].line) == (9, "dl", "x")
    session.expunge_all()
    ships = session.scalars(select(Ship).order_by(Ship.id)).all()
    assert [(each.name, each.crew) for each in ships] == [("s", 3), ("l", 9)]
    session.expunge_all()
    everything = with_polymorphic(Vessel, "*")
    loaded = session.scalars(select(everything).order_by(everything.id)).all()
    assert [each.__dict__.get("deck") for each in loaded] == [None, "ds", "df", "dl"]
    columns = table(Vessel).c
    query = select(columns.deck, columns.line).order_by(columns.id)
    assert session.execute(query).all() == [
        (None, None), ("ds", None), ("df", None), ("dl", "x"),
    ]  # fmt: skip


def test_the_kind_that_sqlalchemy_fills_in_is_a_scope(session):
    """A row whose kind is changed behind the library's back stays closed."""
    session.add(Ship(name="s", motto="m"))
    session.commit()
    assert session.scalars(select(Ship.motto)).all() == ["m"]
    session.connection().execute(update(table(Vessel)).values(name=None))
    session.connection().exec_driver_sql("UPDATE kmsenv_in_vessels SET kind = 'ferry'")
    with pytest.raises(WrongCellError):
        session.scalars(select(Ferry.motto)).all()


# --- joined tables -------------------------------------------------------------------------


@pytest.mark.parametrize("how", [
    "plain", "with_polymorphic", "aliased", "flat", "some", "selectin", "subquery",
])  # fmt: skip
def test_every_kind_of_polymorphic_loading_opens_every_level(how, staff):
    """Each table's values are bound to the key of that table."""
    children = [Coder, Manager, Director, Temp]
    if how == "plain":
        query = select(Worker)
    elif how == "with_polymorphic":
        query = select(with_polymorphic(Worker, "*"))
    elif how in ("aliased", "flat"):
        query = select(with_polymorphic(Worker, children, aliased=True, flat=how == "flat"))
    elif how == "some":
        query = select(with_polymorphic(Worker, [Manager], flat=True))
    elif how == "selectin":
        query = select(Worker).options(selectin_polymorphic(Worker, children))
    else:
        query = select(aliased(Worker, select(Worker).subquery()))
    assert described(staff.scalars(query)) == STAFF


def test_columns_of_children_are_selected_through_the_parent(staff):
    """Rows of other kinds have NULL, from the outer join."""
    everyone = with_polymorphic(Worker, [Coder, Director], flat=True)
    query = select(everyone.name, everyone.Coder.language, everyone.Director.car)
    rows = staff.execute(query.order_by(everyone.id)).all()
    assert rows[:5] == [
        ("w0", None, None), ("c0", "py", None), ("m0", None, None), ("d0", None, "big"),
        ("t0", None, None),
    ]  # fmt: skip
    query = select(Director.name, Director.bonus, Director.car).order_by(Director.id)
    assert staff.execute(query).all() == [("d0", 10, "big"), ("d1", 11, "big")]


@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_relationships_to_and_from_a_hierarchy(load, staff):
    """To a polymorphic entity of all children, to one child, and on from it."""
    everyone = with_polymorphic(Worker, "*", flat=True)
    target = Company.staff.of_type(everyone)
    query = select(Company).options(load(target).options(load(everyone.Manager.perks)))
    companies = staff.scalars(query.order_by(Company.id)).unique().all()
    assert [company.name for company in companies] == ["acme", "bolt"]
    assert {k: v for c in companies for k, v in described(c.staff).items()} == STAFF
    perks = {
        worker.name: [perk.what for perk in worker.perks]
        for company in companies
        for worker in company.staff
        if isinstance(worker, Manager)
    }
    assert perks == {"m0": ["car", "key"], "d0": ["jet"], "m1": ["car", "key"], "d1": ["jet"]}
    query = select(Company.name, Director.car).join(Company.staff.of_type(Director))
    assert set(staff.execute(query)) == {("acme", "big"), ("bolt", "big")}
    query = select(Company).join(Company.staff.of_type(Manager)).where(Manager.bonus.is_not(None))
    assert {company.name for company in staff.scalars(query)} == {"acme", "bolt"}


def test_every_level_of_an_object_is_changed_in_one_flush(staff):
    """Three UPDATEs, of three tables, each by its own key."""
    for director in staff.scalars(select(Director)):
        director.name += "!"
        director.bonus *= 2
        director.car = None if director.bonus > 20 else "small"
        director.motto = "new"
    staff.commit()
    staff.expunge_all()
    found = staff.execute(
        select(Director.name, Director.bonus, Director.car, Director.motto).order_by(Director.id)
    )
    assert found.all() == [("d0!", 20, "small", "new"), ("d1!", 22, None, "new")]
    assert staff.scalars(select(Worker.name).where(Worker.kind == "coder")).all() == ["c0", "c1"]


def test_a_value_of_one_level_does_not_open_in_another_or_in_another_row(staff):
    """Tables of a hierarchy share keys, and must not share values."""
    first, second = staff.scalars(select(Director).order_by(Director.id)).all()
    directors, managers = table(Director), table(Manager)
    raw = stored(staff, managers.c.bonus, managers.c.id == first.id)
    assert raw.startswith(b"\xe5\x01")
    overwrite(staff.connection(), directors, "car", raw, first.id)
    raw = stored(staff, managers.c.bonus, managers.c.id == second.id)
    overwrite(staff.connection(), managers, "bonus", raw, first.id)
    staff.expire_all()
    for attribute in (Director.car, Manager.bonus):
        with pytest.raises(WrongCellError):
            staff.scalars(select(attribute).where(Worker.id == first.id)).all()
    assert staff.scalars(select(Director.car).where(Director.id == second.id)).all() == ["big"]


def test_deleting_and_bulk_methods_reach_every_table(staff):
    """Inserting and updating by mappings and by objects, with generated keys, and a delete."""
    rows = [{"name": f"new {n}", "company_id": 1, "language": f"l{n}"} for n in range(3)]
    staff.bulk_insert_mappings(Coder, rows, return_defaults=True)
    staff.bulk_save_objects(
        [Coder(name="saved", company_id=2, language="l3")], return_defaults=True
    )
    staff.commit()
    query = select(Coder.id, Coder.name, Coder.language).order_by(Coder.id)
    found = staff.execute(query).all()[2:]
    assert [(row.name, row.language) for row in found] == [
        ("new 0", "l0"), ("new 1", "l1"), ("new 2", "l2"), ("saved", "l3"),
    ]  # fmt: skip
    changed = [{"id": row.id, "name": f"{row.name}!", "language": "rs"} for row in found]
    staff.bulk_update_mappings(Coder, changed)
    staff.commit()
    assert [tuple(row)[1:] for row in staff.execute(query).all()[2:]] == [
        ("new 0!", "rs"), ("new 1!", "rs"), ("new 2!", "rs"), ("saved!", "rs"),
    ]  # fmt: skip
    staff.delete(staff.get_one(Worker, found[0].id))
    staff.commit()
    assert len(staff.execute(query).all()) == 5


@pytest.mark.parametrize("how", ["selectin", "inline"])
def test_loading_that_the_mapper_asks_for(how, engine: Engine, keyring):
    """polymorphic_load on the child, and a discriminator that is computed."""

    class Own(DeclarativeBase):
        pass

    class Item(Own):
        __tablename__ = "kmsenv_in_items"
        id = mapped_column(Integer, primary_key=True)
        size = mapped_column(Integer, nullable=False)
        name = mapped_column(Encrypted(String))
        __mapper_args__ = {
            "polymorphic_on": case((size > 10, "large"), else_="item"),
            "polymorphic_identity": "item",
        }

    class Large(Item):
        __tablename__ = "kmsenv_in_large"
        id = mapped_column(ForeignKey(Item.id), primary_key=True)
        place = mapped_column(Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "large", "polymorphic_load": how}

    attach_keyrings(Own.metadata, keyring)
    Own.metadata.drop_all(engine)
    Own.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            session.add_all([
                Item(size=1, name="a"), Large(size=11, name="b", place="p"), Item(size=2, name="c")
            ])  # fmt: skip
            session.commit()
            session.expunge_all()
            found = session.scalars(select(Item).order_by(Item.id)).all()
            assert "place" in found[1].__dict__
            names = [(each.name, getattr(each, "place", None)) for each in found]
            assert names == [("a", None), ("b", "p"), ("c", None)]
    finally:
        Own.metadata.drop_all(engine)


# --- concrete tables -----------------------------------------------------------------------


def test_abstract_bases_give_each_table_a_column_of_its_own(session):
    """Also where one of them declares it anew, with another type."""
    session.add_all([Door(code="d", token="t"), Gate(code="g", token=5), Door(token="")])
    session.commit()
    assert session.scalars(select(Door.token).order_by(Door.id)).all() == ["t", ""]
    assert session.scalars(select(Gate.token)).all() == [5]
    raw = stored(session, table(Door).c.token, table(Door).c.id == 1)
    overwrite(session.connection(), table(Gate), "token", raw, 1)
    with pytest.raises(WrongCellError):
        session.scalars(select(Gate.token)).all()


def test_a_union_of_concrete_classes_with_one_column_each_is_refused(engine, keyring):
    """Its rows would not tell which table a value is from; each class by itself works."""

    class Own(DeclarativeBase):
        pass

    class Report(AbstractConcreteBase, Own):
        strict_attrs = True

    class Daily(Report):
        __tablename__ = "kmsenv_in_daily"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "daily", "concrete": True}

    class Weekly(Report):
        __tablename__ = "kmsenv_in_weekly"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(Encrypted(String))
        __mapper_args__ = {"polymorphic_identity": "weekly", "concrete": True}

    attach_keyrings(Own.metadata, keyring)
    Own.metadata.drop_all(engine)
    Own.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            session.add_all([Daily(text="d"), Weekly(text="w"), Daily(text="e")])
            session.commit()
            assert session.scalars(select(Daily.text).order_by(Daily.id)).all() == ["d", "e"]
            weekly = session.scalars(select(Weekly)).one()
            weekly.text = "changed"
            session.commit()
            assert weekly.text == "changed"
            with pytest.raises(UnboundValueError, match="mixes"):
                session.scalars(select(Report)).all()
    finally:
        Own.metadata.drop_all(engine)


@pytest.mark.parametrize("parent_has_one", [False, True])
def test_a_union_where_each_column_is_of_one_table_opens_the_right_values(
    parent_has_one, engine, keyring
):
    """The other tables give NULL for it, and the keys of their rows are those of others."""

    class Own(DeclarativeBase):
        pass

    class Vehicle(ConcreteBase, Own):
        __tablename__ = "kmsenv_in_vehicles"
        id = mapped_column(Integer, primary_key=True)
        plate = mapped_column(Encrypted(String) if parent_has_one else String(9))
        __mapper_args__ = {"polymorphic_identity": "vehicle", "concrete": True}

    class Truck(Vehicle):
        __tablename__ = "kmsenv_in_trucks"
        id = mapped_column(Integer, primary_key=True)
        load = mapped_column(Encrypted(Integer))
        __mapper_args__ = {
            "polymorphic_identity": "truck", "concrete": True, "exclude_properties": ["plate"],
        }  # fmt: skip

    class Bike(Vehicle):
        __tablename__ = "kmsenv_in_bikes"
        id = mapped_column(Integer, primary_key=True)
        gears = mapped_column(Encrypted(String))
        __mapper_args__ = {
            "polymorphic_identity": "bike", "concrete": True, "exclude_properties": ["plate"],
        }  # fmt: skip

    attach_keyrings(Own.metadata, keyring)
    Own.metadata.drop_all(engine)
    Own.metadata.create_all(engine)
    try:
        with Session(engine) as session:
            session.add_all([
                *(Vehicle(plate=f"v{n}") for n in range(3)),
                *(Truck(load=n) for n in range(2)), *(Bike(gears=f"g{n}") for n in range(2)),
            ])  # fmt: skip
            session.commit()
            session.expunge_all()
            found = session.scalars(select(Vehicle)).all()
            values = {
                (type(each).__name__, each.id): getattr(each, name)
                for each in found
                for name in ("plate", "load", "gears")
                if name in each.__dict__
            }
            assert values == {
                ("Vehicle", 1): "v0", ("Vehicle", 2): "v1", ("Vehicle", 3): "v2",
                ("Truck", 1): 0, ("Truck", 2): 1, ("Bike", 1): "g0", ("Bike", 2): "g1",
            }  # fmt: skip
    finally:
        Own.metadata.drop_all(engine)


def test_polymorphic_union_of_tables_written_by_hand(engine, keyring, metadata: MetaData):
    """One encrypted column under the same name in both tables is refused, whatever else agrees."""
    left, right = (
        Table(
            f"kmsenv_in_{side}", metadata, Column("id", Integer, primary_key=True),
            Column("text", Encrypted(String)), Column("note", String(9)),
        )
        for side in ("left", "right")
    )  # fmt: skip
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    union = polymorphic_union({"l": left, "r": right}, "side", "pjoin")
    with engine.begin() as connection:
        for table in (left, right):
            connection.execute(insert(table), [{"text": f"{table.name} {n}"} for n in range(2)])
    with engine.connect() as connection:
        with pytest.raises(UnboundValueError, match="mixes"):
            connection.execute(select(union.c.text)).all()
        with pytest.raises(UnboundValueError, match="mixes"):
            connection.execute(select(union.c.id, union.c.side)).all()
        assert connection.scalar(select(func.count()).select_from(left)) == 2
