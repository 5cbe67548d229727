"""Loading encrypted attributes: now, later, on demand, eagerly, through aliases, in streams."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    column,
    func,
    inspect,
    join,
    literal,
    literal_column,
    null,
    select,
    table,
    text,
    true,
    type_coerce,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    aliased,
    column_property,
    contains_eager,
    defer,
    deferred,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    raiseload,
    registry,
    relationship,
    selectinload,
    subqueryload,
    undefer,
    undefer_group,
    with_loader_criteria,
    with_parent,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.orm.loading import merge_frozen_result

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "kmsenv_ld_people"
    id = mapped_column(Integer, primary_key=True)
    code = mapped_column(String(10), nullable=False)
    shouted: Mapped[str] = column_property(func.upper(code))
    home_count: ClassVar[Any]
    boss_id = mapped_column(ForeignKey("kmsenv_ld_people.id"))
    name: Mapped[Any] = column_property(Column(Encrypted(String)), active_history=True)
    diary: Mapped[Any] = deferred(Column(Encrypted(JSON)))
    front: Mapped[Any] = deferred(Column(Encrypted(String)), group="photos")
    side: Mapped[Any] = deferred(Column(Encrypted(String)), group="photos")
    sealed: Mapped[Any] = deferred(Column(Encrypted(String)), raiseload=True)
    homes = relationship("Home", back_populates="person", order_by="Home.id")
    strict = relationship("Home", lazy="raise", viewonly=True)
    dynamic: WriteOnlyMapped[Home] = relationship(viewonly=False, overlaps="homes,person")
    boss = relationship("Person", remote_side="Person.id", back_populates="staff")
    staff = relationship("Person", back_populates="boss", order_by="Person.id")


class Home(Base):
    __tablename__ = "kmsenv_ld_homes"
    id = mapped_column(Integer, primary_key=True)
    person_id = mapped_column(ForeignKey(Person.id), nullable=False)
    street = mapped_column(Encrypted(String, scope=["person_id"]))
    person = relationship(Person, back_populates="homes")
    rooms = relationship("Room", order_by="Room.id")


class Room(Base):
    __tablename__ = "kmsenv_ld_rooms"
    id = mapped_column(Integer, primary_key=True)
    home_id = mapped_column(ForeignKey(Home.id), nullable=False)
    colour = mapped_column(Encrypted(String, scope="row"))


# Over the rows of another table, which has to be there first.
Person.home_count = column_property(
    select(func.count(Home.street))
    .where(Home.person_id == Person.id)
    .correlate_except(Home)
    .scalar_subquery()
)

PEOPLE = {
    "ann": {"a street": ["red", "blue"], "b street": []},
    "bob": {"c street": ["green"]},
    "eve": {},
}


@pytest.fixture
def session(engine, keyring):
    """Three people, the first of whom is the boss of the others, with homes and rooms."""
    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        boss = None
        for name, homes in PEOPLE.items():
            person = Person(
                code=name[0], name=name, boss=boss, diary={"of": name},
                front=f"front of {name}", side=f"side of {name}", sealed=f"seal of {name}",
                homes=[
                    Home(street=street, rooms=[Room(colour=colour) for colour in rooms])
                    for street, rooms in homes.items()
                ],
            )  # fmt: skip
            session.add(person)
            boss = boss or person
        session.commit()
    with Session(engine) as session:
        yield session
    Base.metadata.drop_all(engine)


def tree(people: Any) -> dict[str, dict[str, list[str]]]:
    """What was loaded, in the shape in which it was given."""
    return {
        person.name: {home.street: [room.colour for room in home.rooms] for home in person.homes}
        for person in people
    }


def first(session: Session, *options: Any) -> Person:
    """Ann."""
    return session.scalars(select(Person).options(*options).order_by(Person.id).limit(1)).one()


# --- deferred ------------------------------------------------------------------------------


def test_deferred_columns_come_when_they_are_asked_for(session):
    """One alone, a group together, and all of them from objects that were expired."""
    ann = first(session)
    assert {"diary", "front", "side", "sealed"} <= inspect(ann).unloaded
    assert ann.diary == {"of": "ann"}
    assert inspect(ann).unloaded >= {"front", "side"}
    assert ann.front == "front of ann"
    assert not {"front", "side"} & inspect(ann).unloaded
    assert ann.side == "side of ann"
    session.expire(ann)
    assert (ann.name, ann.diary, ann.side) == ("ann", {"of": "ann"}, "side of ann")


def test_options_undefer_and_defer_for_one_query(session):
    """Also along a relationship, and with a wildcard."""
    ann = first(session, undefer(Person.diary), undefer_group("photos"), defer(Person.name))
    assert not {"diary", "front", "side"} & inspect(ann).unloaded
    assert "name" in inspect(ann).unloaded
    assert (ann.name, ann.diary, ann.front) == ("ann", {"of": "ann"}, "front of ann")
    session.expunge_all()
    ann = first(session, undefer("*"))
    assert ann.sealed == "seal of ann"
    session.expunge_all()
    homes = session.scalars(
        select(Home).options(joinedload(Home.person).undefer(Person.diary).defer(Person.code))
    ).unique()
    assert {home.person.diary["of"] for home in homes} == {"ann", "bob"}


def test_load_only_loads_the_key_along(session):
    """Without it no value could be opened."""
    ann = first(session, load_only(Person.name))
    assert {"code", "diary", "boss_id"} <= inspect(ann).unloaded
    assert ann.name == "ann"
    session.expunge_all()
    ann = first(session, load_only(Person.code), selectinload(Person.homes).load_only(Home.street))
    assert "name" in inspect(ann).unloaded
    assert [home.street for home in ann.homes] == ["a street", "b street"]
    assert ann.name == "ann"


def test_raiseload_refuses_what_was_not_loaded(session):
    """A column, a relationship, and an option of load_only; a refresh names what it wants."""
    ann = first(session)
    with pytest.raises(InvalidRequestError, match="raiseload=True"):
        _ = ann.sealed
    with pytest.raises(InvalidRequestError, match="lazy='raise'"):
        _ = ann.strict
    session.refresh(ann, ["sealed"])
    assert ann.sealed == "seal of ann"
    session.expunge_all()
    ann = first(session, load_only(Person.code, raiseload=True), raiseload(Person.homes))
    with pytest.raises(InvalidRequestError):
        _ = ann.name
    with pytest.raises(InvalidRequestError):
        _ = ann.homes
    session.expunge_all()
    ann = first(session, undefer(Person.sealed))
    assert ann.sealed == "seal of ann"


def test_a_deferred_value_is_changed_without_being_loaded(session):
    """And the object has the new one."""
    ann = first(session)
    ann.diary, ann.sealed = {"new": 1}, "new"
    session.commit()
    assert ann.diary == {"new": 1}
    session.expunge_all()
    assert first(session, undefer(Person.sealed)).sealed == "new"


def test_a_detached_object_cannot_load(session):
    """As with any column."""
    ann = first(session)
    session.expunge(ann)
    assert ann.name == "ann"
    with pytest.raises(DetachedInstanceError):
        _ = ann.diary


# --- relationships -------------------------------------------------------------------------


@pytest.mark.parametrize("outer", [joinedload, selectinload, subqueryload, lazyload])
@pytest.mark.parametrize("inner", [joinedload, selectinload, subqueryload, lazyload])
@pytest.mark.parametrize("limit", [None, 3])
def test_every_pair_of_loading_strategies_opens_both_levels(outer, inner, limit, session):
    """Also where SQLAlchemy wraps the first query to limit it."""
    options = outer(Person.homes).options(inner(Home.rooms))
    query = select(Person).options(options).order_by(Person.id).limit(limit)
    assert tree(session.scalars(query).unique()) == PEOPLE


@pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload, lazyload])
def test_a_table_that_is_joined_with_itself(load, session):
    """The same column twice in one row, each for its own row."""
    query = select(Person).options(load(Person.staff)).order_by(Person.id).limit(2)
    found = session.scalars(query).unique().all()
    assert [[each.name for each in person.staff] for person in found] == [["bob", "eve"], []]
    session.expunge_all()
    query = select(Person).options(load(Person.boss).options(load(Person.staff)))
    found = session.scalars(query.where(Person.code == "e")).unique().one()
    assert (found.name, found.boss.name) == ("eve", "ann")
    assert {each.name for each in found.boss.staff} == {"bob", "eve"}


@pytest.mark.parametrize("use_alias", [False, True])
def test_contains_eager_fills_collections_from_the_join_that_is_written(use_alias, session):
    """From the table, from an alias, and from a limited subquery."""
    if use_alias:
        target: Any = aliased(Home, select(Home).order_by(Home.id).limit(2).subquery())
        expected = {"ann": {"a street", "b street"}}
    else:
        target, expected = Home, {"ann": {"a street", "b street"}, "bob": {"c street"}}
    query = (
        select(Person)
        .join(Person.homes.of_type(target) if use_alias else Person.homes)
        .options(contains_eager(Person.homes.of_type(target) if use_alias else Person.homes))
        .execution_options(populate_existing=True)
    )
    people = session.scalars(query).unique()
    found = {person.name: {home.street for home in person.homes} for person in people}
    assert found == expected


def test_loader_criteria_parents_and_write_only_collections(session):
    """Conditions that are added to every query of an entity."""
    ann = first(
        session,
        selectinload(Person.homes),
        with_loader_criteria(Home, lambda home: home.street.is_not(None)),
    )
    assert [home.street for home in ann.homes] == ["a street", "b street"]
    homes = session.scalars(select(Home).where(with_parent(ann, Person.homes))).all()
    assert {home.street for home in homes} == {"a street", "b street"}
    ann.dynamic.add(Home(street="d street"))
    session.flush()
    found = session.scalars(ann.dynamic.select().order_by(Home.id)).all()
    assert [home.street for home in found] == ["a street", "b street", "d street"]
    session.execute(ann.dynamic.insert(), [{"street": "e street"}, {"street": None}])
    session.commit()
    found = session.scalars(ann.dynamic.select().order_by(Home.id)).all()
    assert [home.street for home in found][3:] == ["e street", None]


# --- aliases and other sources -------------------------------------------------------------


def test_aliases_of_tables_subqueries_ctes_and_laterals(session):
    """Each carries the key of its rows along."""
    boss = aliased(Person, name="boss")
    query = select(Person.name, boss.name).join(boss, Person.boss).order_by(Person.id)
    assert session.execute(query).all() == [("bob", "ann"), ("eve", "ann")]
    cte = select(Person).where(Person.code != "b").cte("some")
    found = session.scalars(select(aliased(Person, cte)).order_by(cte.c.id)).all()
    assert [person.name for person in found] == ["ann", "eve"]
    nested = select(aliased(Person, select(Person).subquery())).subquery()
    twice = aliased(Person, nested)
    assert {each.name for each in session.scalars(select(twice))} == set(PEOPLE)
    if session.get_bind().dialect.name == "postgresql":
        lateral = (
            select(Home.id, Home.person_id, Home.street)
            .where(Home.person_id == Person.id)
            .limit(1)
            .lateral()
        )
        rows = session.execute(select(Person.name, lateral.c.street).join(lateral, true()))
        assert {name for name, _ in rows} == {"ann", "bob"}


def test_a_recursive_query_carries_the_key_and_the_value(session):
    """The two halves of its UNION ALL are the same column."""
    top = select(Person.id, Person.boss_id, Person.name, literal(0).label("depth"))
    chain = top.where(Person.boss_id.is_(None)).cte("chain", recursive=True)
    below = select(Person.id, Person.boss_id, Person.name, chain.c.depth + 1)
    chain = chain.union_all(below.join(chain, Person.boss_id == chain.c.id))
    rows = session.execute(select(chain.c.name, chain.c.depth).order_by(chain.c.id)).all()
    assert rows == [("ann", 0), ("bob", 1), ("eve", 1)]


def test_column_properties_of_and_beside_encrypted_columns(session):
    """One reads the value; others are computed by the database."""
    ann = first(session)
    assert (ann.name, ann.shouted, ann.home_count) == ("ann", "A", 2)
    bundles = session.execute(select(Bundle("b", Person.name, Person.shouted), Person.name))
    assert {(row.b.name, row.b.shouted, row.name) for row in bundles} == {
        ("ann", "A", "ann"), ("bob", "B", "bob"), ("eve", "E", "eve"),
    }  # fmt: skip
    session.expire(ann)
    ann.name = "anna"
    assert inspect(ann).attrs.name.history.deleted == ["ann"]
    session.commit()
    assert first(session).name == "anna"


def test_a_column_property_that_computes_with_a_value_is_refused(keyring, engine, session):
    """When it is read, before anything is sent."""

    class Wrong(DeclarativeBase):
        metadata = MetaData()

    class Thing(Wrong):
        __tablename__ = "kmsenv_ld_things"
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(Encrypted(String))

    Thing.upper = column_property(func.upper(Thing.__table__.c.name), deferred=True)
    attach_keyrings(Wrong.metadata, keyring)
    Wrong.metadata.drop_all(engine)
    Wrong.metadata.create_all(engine)
    try:
        session.add(Thing(name="x"))
        session.commit()
        thing = session.scalars(select(Thing)).one()
        assert thing.name == "x"
        with pytest.raises(UnboundValueError):
            _ = thing.upper
    finally:
        session.close()
        Wrong.metadata.drop_all(engine)


def test_a_class_over_a_join_and_one_over_a_subquery(keyring, engine, session):
    """Two tables behind one object; each binds what is its own."""
    people, homes = Person.__table__, Home.__table__
    mapping = registry(metadata=MetaData())

    class Resident:
        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    class Known:
        pass

    mapping.map_imperatively(
        Resident, join(people, homes, people.c.id == homes.c.person_id),
        properties={
            "id": [people.c.id, homes.c.person_id], "home_id": homes.c.id,
            "name": people.c.name, "street": homes.c.street,
        },
    )  # fmt: skip
    mapping.map_imperatively(
        Known, select(people.c.id, people.c.name).where(people.c.code != "e").subquery()
    )
    found = session.scalars(select(Resident).order_by(homes.c.id)).all()
    assert [(each.name, each.street) for each in found] == [
        ("ann", "a street"), ("ann", "b street"), ("bob", "c street"),
    ]  # fmt: skip
    assert {each.name for each in session.scalars(select(Known))} == {"ann", "bob"}
    found[2].name, found[2].street = "rob", "new street"
    session.add(Resident(code="z", name="zoe", street="z street"))
    session.commit()
    session.expunge_all()
    pairs = [(each.name, each.street) for each in session.scalars(select(Resident))]
    assert ("rob", "new street") in pairs
    assert ("zoe", "z street") in pairs
    mapping.dispose()


def test_a_reflected_table_with_an_encrypted_column(keyring, engine, session):
    """Everything else comes from the database, and looks different than a model says it."""

    class Reflected(DeclarativeBase):
        metadata = MetaData()

    class Row(Reflected):
        __table__ = Table(
            "kmsenv_ld_homes", Reflected.metadata,
            Column("street", Encrypted(String, scope=["person_id"])),
            autoload_with=engine,
        )  # fmt: skip

    attach_keyrings(Reflected.metadata, keyring)
    session.add_all([Row(person_id=1, street="new 1"), Row(person_id=2, street="new 2")])
    session.commit()
    old = session.scalars(select(Row).order_by("id")).first()
    assert old.street == "a street"
    old.street = "changed"
    session.commit()
    streets = session.scalars(select(Home.street).order_by(Home.id)).all()
    assert streets == ["changed", "b street", "c street", "new 1", "new 2"]


def test_text_statements_are_refused_and_statements_of_columns_are_not(session):
    """from_statement: a SELECT of the entity's columns, and raw SQL."""
    statement = select(Person).order_by(Person.id.desc())
    found = session.scalars(select(Person).from_statement(statement)).all()
    assert [person.name for person in found] == ["eve", "bob", "ann"]
    session.expunge_all()
    raw = text("SELECT id, street FROM kmsenv_ld_homes").columns(Home.id, Home.street)
    with pytest.raises(UnboundValueError, match="text"):
        session.scalars(select(Home).from_statement(raw)).all()


_HOMES = text("SELECT id, street FROM kmsenv_ld_homes")


@pytest.mark.parametrize("what", [(Home,), (aliased(Home),), (Home.id, Home.street)])
@pytest.mark.parametrize(
    "source",
    [
        _HOMES.columns(id=Integer, street=String),
        _HOMES.columns(id=Integer, street=LargeBinary),
        select(column("id", Integer), column("street")).select_from(table("kmsenv_ld_homes")),
        select(Home.id, type_coerce(Home.street, LargeBinary).label("street")),
    ],
)
def test_no_statement_that_knows_nothing_of_the_type_fills_an_attribute(what, source, session):
    """SQLAlchemy goes by names in from_statement(): an object would hold the stored bytes."""
    with pytest.raises(UnboundValueError, match="leave it out of the statement"):
        session.execute(select(*what).from_statement(source)).all()


def test_a_statement_that_leaves_the_column_out_or_gives_null_is_taken(session):
    """What the refusal advises; the value is loaded when it is asked for."""
    left_out = text("SELECT id FROM kmsenv_ld_homes ORDER BY id").columns(id=Integer)
    homes = session.scalars(select(Home).from_statement(left_out)).all()
    assert [home.street for home in homes] == ["a street", "b street", "c street"]
    session.expunge_all()
    nothing = select(Home.id, null().label("street"))
    assert {home.street for home in session.scalars(select(Home).from_statement(nothing))} == {None}


@pytest.mark.parametrize(
    "source",
    [
        _HOMES.columns(id=Integer, street=String),
        _HOMES.columns(id=Integer, street=LargeBinary),
        select(column("id", Integer), column("street")).select_from(table("kmsenv_ld_homes")),
        select(Home.id, type_coerce(Home.street, LargeBinary).label("street")),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_no_subquery_that_knows_nothing_of_the_type_fills_an_alias(source, whole, session):
    """With adapt_on_names=True SQLAlchemy goes by names too."""
    alias = aliased(Home, source.subquery(), adapt_on_names=True)
    with pytest.raises(UnboundValueError, match="Select the column of the model in the subquery"):
        session.execute(select(alias if whole else alias.street)).all()


@pytest.mark.parametrize("by_name", [True, False])
def test_a_subquery_with_the_columns_of_the_model_fills_an_alias(by_name, session):
    """What the refusal advises; and NULL, of which there is nothing to open."""
    whole = select(Home.id, Home.person_id, Home.street).subquery()
    alias = aliased(Home, whole, adapt_on_names=by_name)
    streets = session.scalars(select(alias.street).order_by(alias.id)).all()
    assert streets == ["a street", "b street", "c street"]
    named = aliased(Home, select(Home.id, null().label("street")).subquery(), adapt_on_names=True)
    assert {home.street for home in session.scalars(select(named))} == {None}


@pytest.mark.parametrize("star", ["*", text("*"), literal_column("*")])
def test_select_star_from_a_class_is_let_pass(star, session):
    """As with text(), nothing is known of its columns, and SQLAlchemy describes none."""
    rows = session.execute(select(star).select_from(Home).order_by(Home.id)).all()
    assert [row.id for row in rows] == session.scalars(select(Home.id).order_by(Home.id)).all()


# --- results -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["yield_per", "stream_results", "partitions", "query"])
def test_large_results_are_read_in_chunks(how, session):
    """Entities of two tables at a time; a server-side cursor where the driver has one."""
    session.add_all([
        Person(code="x", name=f"x{i}", homes=[Home(street=f"s{i}")]) for i in range(120)
    ])  # fmt: skip
    session.commit()
    session.expunge_all()
    query = select(Home).join(Home.person).where(Person.code == "x")
    query = query.options(contains_eager(Home.person)).order_by(Home.id)
    if how == "yield_per":
        found: Any = session.scalars(query, execution_options={"yield_per": 50})
    elif how == "stream_results":
        options = {"stream_results": True, "max_row_buffer": 50}
        found = session.scalars(query, execution_options=options)
    elif how == "partitions":
        chunks = session.scalars(query.execution_options(yield_per=50)).partitions()
        found = (home for chunk in chunks for home in chunk)
    else:
        found = (
            session.query(Home).join(Home.person).where(Person.code == "x")
            .options(contains_eager(Home.person)).yield_per(50)
        )  # fmt: skip
    pairs = sorted((home.person.name, home.street) for home in found)
    assert pairs == sorted((f"x{i}", f"s{i}") for i in range(120))


def test_a_frozen_result_is_read_again(session):
    """What a cache of results keeps are the opened values."""
    result = session.execute(select(Person).order_by(Person.id))
    frozen = result.freeze()
    assert [person.name for person in frozen().scalars()] == list(PEOPLE)
    with Session(session.get_bind()) as other:
        merged = merge_frozen_result(other, select(Person), frozen, load=False)
        assert [person.name for person in merged().scalars()] == list(PEOPLE)


def test_refreshing_reads_what_others_have_committed(session):
    """refresh, expire, populate_existing and get; named attributes, deferred ones too."""
    ann = first(session)
    session.commit()
    with Session(session.get_bind()) as other:
        theirs = first(other)
        theirs.name, theirs.diary, theirs.homes[0].street = "anna", {"n": 1}, "moved"
        other.commit()
    session.refresh(ann, ["name", "diary", "homes"])
    assert (ann.name, ann.diary) == ("anna", {"n": 1})
    assert [home.street for home in ann.homes] == ["moved", "b street"]
    for undo in (
        lambda: session.expire(ann, ["name"]),
        lambda: session.refresh(ann),
        lambda: session.get_one(Person, ann.id, populate_existing=True),
        session.expire_all,
    ):
        with session.no_autoflush:
            ann.name = "not written"
            undo()
            assert ann.name == "anna"
    assert not session.dirty


def test_legacy_queries_count_exist_and_select_columns(session):
    """session.query() renders the same statements."""
    query = session.query(Person).join(Person.homes).distinct()
    assert {person.name for person in query} == {"ann", "bob"}
    assert query.count() == 2
    assert session.query(session.query(Person.name).where(Person.code == "e").exists()).scalar()
    assert session.query(Person.name, Home.street).join(Home).order_by(Home.id).first() == (
        "ann", "a street",
    )  # fmt: skip
    assert session.query(Person).with_entities(Person.name).order_by(Person.id).all() == [
        ("ann",), ("bob",), ("eve",),
    ]  # fmt: skip
