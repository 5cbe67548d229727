"""The life of an object: made, flushed, changed, detached, merged, rolled back, deleted."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Engine,
    ForeignKey,
    Integer,
    String,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    inspect,
    lambda_stmt,
    null,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableComposite, MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    attribute_keyed_dict,
    composite,
    make_transient,
    make_transient_to_detached,
    mapped_column,
    object_session,
    relationship,
)
from sqlalchemy.orm.exc import DetachedInstanceError, StaleDataError

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.columns.conftest import stored
from tests.conftest import on


class Base(DeclarativeBase):
    pass


class Account(Base):
    """The parent; its key is the server's."""

    __tablename__ = "kmsenv_life_accounts"
    id = mapped_column(Integer, primary_key=True)
    code = mapped_column(String(20), unique=True)
    secret = mapped_column(Encrypted(String))
    settings = mapped_column(Encrypted(JSON))
    entries = relationship(
        "Entry", back_populates="account", cascade="all, delete-orphan", order_by="Entry.id"
    )
    by_body = relationship("Entry", collection_class=attribute_keyed_dict("body"), viewonly=True)
    bodies = association_proxy("entries", "body", creator=lambda body: Entry(body=body))

    @hybrid_property
    def shout(self) -> Any:
        """A property over the encrypted one, to read and to write."""
        return self.secret.upper()

    @shout.inplace.expression
    @classmethod
    def _shout_expression(cls) -> Any:
        return cls.secret

    @shout.inplace.setter
    def _shout(self, value: str) -> None:
        self.secret = value.lower()


class Entry(Base):
    """The child: scoped by the key that the server gives to its parent."""

    __tablename__ = "kmsenv_life_entries"
    id = mapped_column(Integer, primary_key=True)
    account_id = mapped_column(ForeignKey(Account.id), nullable=False)
    body = mapped_column(Encrypted(Text, scope=["account_id"]))
    account = relationship(Account, back_populates="entries")
    marks = relationship("Mark", cascade="all, delete-orphan")


class Mark(Base):
    """The grandchild: the key of its parent is a part of its own."""

    __tablename__ = "kmsenv_life_marks"
    entry_id = mapped_column(ForeignKey(Entry.id), primary_key=True)
    place = mapped_column(Integer, primary_key=True, autoincrement=False)
    value = mapped_column(Encrypted(BigInteger))


class Node(Base):
    """Self-referential; two rows may point at each other."""

    __tablename__ = "kmsenv_life_nodes"
    id = mapped_column(Integer, primary_key=True)
    next_id = mapped_column(ForeignKey("kmsenv_life_nodes.id"))
    label = mapped_column(Encrypted(String))
    next = relationship("Node", remote_side="Node.id", post_update=True)


class Stamped(Base):
    """What the server fills in is fetched at once."""

    __tablename__ = "kmsenv_life_stamped"
    id = mapped_column(Integer, primary_key=True)
    made = mapped_column(String(20), server_default="server")
    changed = mapped_column(String(20), onupdate=func.lower("CHANGED"))
    revision = mapped_column(Integer, nullable=False)
    note = mapped_column(Encrypted(String))
    __mapper_args__ = {"eager_defaults": True, "version_id_col": revision}


@dataclass
class Spot(MutableComposite):
    """Two encrypted columns as one value that notices its changes."""

    lat: float
    lon: float

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.changed()

    def __getstate__(self) -> tuple[float, float]:
        return self.lat, self.lon

    def __setstate__(self, state: tuple[float, float]) -> None:
        self.lat, self.lon = state


class Documented:
    """A mixin: each class that takes it tracks the changes of a column of its own."""

    extra = mapped_column(MutableDict.as_mutable(Encrypted(JSON)))


class Page(Documented, Base):
    __tablename__ = "kmsenv_life_pages"
    id = mapped_column(Integer, primary_key=True)
    tags = mapped_column(MutableList.as_mutable(Encrypted(JSON)))
    lat = mapped_column(Encrypted(JSON))
    lon = mapped_column(Encrypted(JSON))
    spot = composite(Spot, "lat", "lon")


class Sheet(Documented, Base):
    __tablename__ = "kmsenv_life_sheets"
    id = mapped_column(Integer, primary_key=True)


Secret = Annotated[str, mapped_column(Encrypted(String))]


class Typed(Base):
    """One declaration of the type, used by several columns."""

    __tablename__ = "kmsenv_life_typed"
    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[Secret]
    second: Mapped[Secret]


class Keyed(Base):
    """The application gives the key."""

    __tablename__ = "kmsenv_life_keyed"
    id = mapped_column(Integer, primary_key=True, autoincrement=False)
    value = mapped_column(Encrypted(String))


class Tenanted(Base):
    """Where a row belongs is the server's default, and one of the classes does not even map it."""

    __tablename__ = "kmsenv_life_tenanted"
    id = mapped_column(Integer, primary_key=True)
    tenant = mapped_column(String(9), server_default="home", nullable=False)
    value = mapped_column(Encrypted(String, scope=["tenant"]))


class Untold(Base):
    __table__ = Tenanted.__table__
    __mapper_args__ = {"exclude_properties": ["tenant"]}


@pytest.fixture
def session(engine, keyring):
    """A session on empty tables of each database."""
    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    Base.metadata.drop_all(engine)


def table(model: Any) -> Any:
    """The table of a mapped class, as one that has columns of any kind."""
    return model.__table__


def fresh(session: Session, attribute: Any) -> list[Any]:
    """What is committed, in the order of the keys, as a new session reads it."""
    with Session(session.get_bind()) as other:
        return list(other.scalars(select(attribute).order_by(attribute.class_.id)))


# --- assigning -----------------------------------------------------------------------------


def test_an_object_shows_its_value_at_every_stage(session):
    """Never an envelope, and never nothing: pending, flushed, expired, refreshed, changed."""
    account = Account(secret="one", settings={"a": [1]})
    session.add(account)
    session.flush()
    assert (account.secret, account.settings) == ("one", {"a": [1]})
    assert stored(session, table(Account).c.secret).startswith(b"\xe5\x01")
    session.expire(account)
    assert (account.secret, account.settings) == ("one", {"a": [1]})
    account.secret = "two"
    assert inspect(account).attrs.secret.history.deleted == ["one"]
    session.flush()
    assert account.secret == "two"
    assert not session.is_modified(account)
    session.refresh(account, with_for_update=True)
    assert account.secret == "two"
    session.commit()
    assert fresh(session, Account.secret) == ["two"]


def test_an_equal_value_is_not_written_again(session):
    """A new envelope for every flush would make noise in the database and its backups."""
    account = Account(secret="same", settings={"a": 1})
    session.add(account)
    session.commit()
    before = stored(session, table(Account).c.secret)
    assert (account.secret, account.settings) == ("same", {"a": 1})
    account.secret, account.settings = "same", {"a": 1}
    assert not session.is_modified(account)
    session.commit()
    assert stored(session, table(Account).c.secret) == before


def test_none_and_empty_text_and_back_in_a_batch(session):
    """Rows of one flush that differ in which of their values are NULL."""
    given: list[tuple[Any, Any]] = [
        (None, None),
        ("", None),
        (None, {}),
        ("x", []),
        ("", 0),
        (None, None),
    ]
    accounts = [Account(secret=secret, settings=settings) for secret, settings in given]
    session.add_all(accounts)
    session.commit()
    assert [(each.secret, each.settings) for each in accounts] == given
    for each, (secret, settings) in zip(accounts, reversed(given), strict=True):
        each.secret, each.settings = secret, settings
    session.commit()
    assert fresh(session, Account.secret) == [s for s, _ in reversed(given)]
    assert fresh(session, Account.settings) == [s for _, s in reversed(given)]
    raw = session.scalars(text("SELECT secret FROM kmsenv_life_accounts ORDER BY id")).all()
    assert [each is None for each in raw] == [s is None for s, _ in reversed(given)]
    accounts[2].secret = null()
    session.commit()
    assert accounts[2].secret is None


def test_sql_expressions_stand_beside_encrypted_values_and_not_in_them(session):
    """A plain column may be computed by the database in the same INSERT and UPDATE."""
    account = Account(code=func.upper("abc"), secret="s")
    session.add_all([account, Account(code="plain", secret="t")])
    session.commit()
    account.code, account.secret = func.upper("def"), "s2"
    session.commit()
    assert fresh(session, Account.code) == ["DEF", "plain"]
    assert fresh(session, Account.secret) == ["s2", "t"]
    account.secret = func.upper("canary")
    with pytest.raises(UnboundValueError, match="SQL expression"):
        session.flush()
    session.rollback()
    assert account.secret == "s2"


@pytest.mark.parametrize("count", [1, 7, 25])
def test_rows_keep_their_own_values_over_several_pages_of_an_insert(count, session, engine):
    """SQLAlchemy splits a large INSERT; each key still belongs to its object."""
    session.connection(execution_options={"insertmanyvalues_page_size": 4})
    accounts = [Account(code=f"c{i}", secret=f"s{i}", settings=[i]) for i in range(count)]
    for account in accounts:
        account.entries = [Entry(body=f"{account.code} {j}") for j in range(3)]
    session.add_all(reversed(accounts))
    session.commit()
    session.expunge_all()
    for account in session.scalars(select(Account)):
        i = int(account.code[1:])
        assert (account.secret, account.settings) == (f"s{i}", [i])
        assert [entry.body for entry in account.entries] == [f"c{i} {j}" for j in range(3)]


def test_a_type_declared_once_belongs_to_each_column(session):
    """``Annotated`` hands the same declaration to every attribute."""
    session.add(Typed(first="1st", second="2nd"))
    session.commit()
    typed = session.scalars(select(Typed)).one()
    assert (typed.first, typed.second) == ("1st", "2nd")
    names = [table(Typed).c[each].type.binding.column_name for each in ("first", "second")]
    assert names == ["first", "second"]


def test_dataclass_fields_default_factories_and_relationships(session, keyring):
    """MappedAsDataclass: what __init__ fills in is sealed, also in children."""

    class DataBase(MappedAsDataclass, DeclarativeBase):
        pass

    class Album(DataBase):
        __tablename__ = "kmsenv_life_albums"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(Encrypted(String))
        words: Mapped[list[str]] = mapped_column(Encrypted(JSON), default_factory=list)
        songs: Mapped[list[Song]] = relationship(default_factory=list, repr=False)

    class Song(DataBase, kw_only=True):
        __tablename__ = "kmsenv_life_songs"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        album_id: Mapped[int] = mapped_column(ForeignKey(Album.id), init=False)
        text: Mapped[str | None] = mapped_column(
            Encrypted(String, scope=["album_id"]), default=None
        )

    engine = session.get_bind()
    attach_keyrings(DataBase.metadata, keyring)
    DataBase.metadata.drop_all(engine)
    DataBase.metadata.create_all(engine)
    try:
        album = Album("a", songs=[Song(text="la"), Song()])
        session.add(album)
        session.commit()
        session.expunge_all()
        loaded = session.scalars(select(Album)).one()
        assert (loaded.name, loaded.words) == ("a", [])
        assert [song.text for song in loaded.songs] == ["la", None]
    finally:
        session.close()
        DataBase.metadata.drop_all(engine)


# --- relationships -------------------------------------------------------------------------


def test_three_generations_are_saved_and_deleted_in_one_flush(session):
    """Each is bound to a key that the one above it gets in the same flush."""
    accounts = [
        Account(
            secret=f"a{i}",
            entries=[
                Entry(body=f"e{i}{j}", marks=[Mark(place=k, value=100 * i + 10 * j + k)
                                              for k in range(2)])
                for j in range(2)
            ],
        )
        for i in range(2)
    ]  # fmt: skip
    session.add_all(accounts)
    session.commit()
    session.expunge_all()
    for i, account in enumerate(session.scalars(select(Account).order_by(Account.id))):
        for j, entry in enumerate(account.entries):
            assert entry.body == f"e{i}{j}"
            assert [mark.value for mark in entry.marks] == [100 * i + 10 * j + k for k in range(2)]
    first = session.scalars(select(Account).order_by(Account.id)).first()
    del first.entries[0]
    session.commit()
    assert fresh(session, Entry.body) == ["e01", "e10", "e11"]
    session.delete(first)
    session.commit()
    assert fresh(session, Entry.body) == ["e10", "e11"]
    assert fresh(session, Account.secret) == ["a1"]


def test_collections_and_proxies_over_encrypted_attributes(session):
    """Keyed by a value that was opened, and written through an association proxy."""
    account = Account(secret="s", bodies=["x", "y"])
    session.add(account)
    session.commit()
    account.bodies.append("z")
    session.commit()
    assert {body: entry.body for body, entry in account.by_body.items()} == {
        "x": "x", "y": "y", "z": "z",
    }  # fmt: skip
    assert list(account.bodies) == ["x", "y", "z"]
    account.bodies.remove("y")
    session.commit()
    assert fresh(session, Entry.body) == ["x", "z"]
    with pytest.raises(UnboundValueError):
        session.scalars(select(Account).where(Account.bodies.contains("x"))).all()


def test_rows_that_point_at_each_other_are_saved_by_a_second_update(session):
    """post_update fills in the key of the other, and leaves the sealed values alone."""
    one, two = Node(label="one"), Node(label="two")
    one.next, two.next = two, one
    alone = Node(label="alone")
    session.add_all([one, two, alone])
    session.commit()
    assert fresh(session, Node.label) == [n.label for n in sorted([one, two, alone], key=by_id)]
    assert (one.next.label, two.next.label) == ("two", "one")
    one.label, one.next = "1", one
    session.commit()
    session.expire_all()
    assert (one.label, one.next.label, two.next.label) == ("1", "1", "1")
    for node in (one, two):
        session.delete(node)
    session.commit()
    assert fresh(session, Node.label) == ["alone"]


def by_id(target: Any) -> Any:
    """The key that a row got."""
    return target.id


def test_a_hybrid_property_writes_through_to_the_encrypted_attribute(session):
    """On the object, and in an UPDATE by key; a comparison in SQL is refused."""
    account = Account()
    account.shout = "LOUD"
    session.add(account)
    session.commit()
    assert (account.secret, account.shout) == ("loud", "LOUD")
    session.execute(update(Account).where(Account.id == account.id).values({Account.shout: "x"}))
    session.commit()
    assert fresh(session, Account.secret) == ["x"]
    assert session.scalars(select(Account.shout)).all() == ["x"]
    with pytest.raises(UnboundValueError, match="two envelopes of one value differ"):
        session.scalars(select(Account).where(Account.shout == "X")).all()


# --- mutable values ------------------------------------------------------------------------


def test_changes_in_place_are_sealed_in_every_class_that_tracks_them(session):
    """Dictionaries of a mixin, lists, and composites of two columns."""
    page = Page(extra={"n": 1}, tags=["a"], spot=Spot(1.5, 2.5))
    sheet = Sheet(extra={"m": {}})
    session.add_all([page, sheet])
    session.commit()
    page.extra["n"] = 2
    page.tags.extend(["b", "c"])
    page.spot.lat = 9.5
    sheet.extra.setdefault("k", []).append(1)
    session.commit()
    session.expunge_all()
    page, sheet = session.scalars(select(Page)).one(), session.scalars(select(Sheet)).one()
    assert (page.extra, page.tags, page.spot) == ({"n": 2}, ["a", "b", "c"], Spot(9.5, 2.5))
    assert sheet.extra == {"m": {}, "k": [1]}
    del page.tags[0]
    page.extra.clear()
    page.spot = Spot(0.0, 0.0)
    session.commit()
    assert fresh(session, Page.tags) == [["b", "c"]]
    assert fresh(session, Page.extra) == [{}]
    assert fresh(session, Page.lat) == [0.0]


def test_mutable_values_stay_tracked_through_flush_refresh_merge_and_pickle(session):
    """Every place where SQLAlchemy puts a value into an object."""
    page = Page(extra={"n": 0}, tags=[])
    session.add(page)
    session.flush()
    page.extra["n"] = 1
    session.flush()
    session.refresh(page)
    page.extra["n"] += 1
    session.commit()
    assert page.extra == {"n": 2}
    session.expunge(page)
    copy = pickle.loads(pickle.dumps(page))  # noqa: S301  our own object
    copy.extra["n"] += 1
    merged = session.merge(copy)
    merged.extra["n"] += 1
    session.commit()
    assert fresh(session, Page.extra) == [{"n": 4}]


# --- detached objects ----------------------------------------------------------------------


def test_detached_objects_come_back_by_add_and_by_merge(session):
    """The scope is known from the object, or is read where it is not loaded."""
    account = Account(secret="s", entries=[Entry(body="b")])
    session.add(account)
    session.commit()
    entry = account.entries[0]
    key, body = entry.id, entry.body
    assert body == "b"
    session.expunge_all()
    copy = pickle.loads(pickle.dumps(entry))  # noqa: S301  our own object
    copy.body = "added"
    session.add(copy)
    session.commit()
    assert fresh(session, Entry.body) == ["added"]
    session.expunge_all()
    session.merge(Entry(id=key, body="merged"))
    session.commit()
    assert fresh(session, Entry.body) == ["merged"]
    session.expunge_all()
    bare = Entry(id=key)
    make_transient_to_detached(bare)
    session.add(bare)
    bare.body = "never loaded"
    session.commit()
    assert fresh(session, Entry.body) == ["never loaded"]
    assert stored(session, table(Entry).c.body).startswith(b"\xe5\x01")


def test_merging_an_unknown_key_and_without_loading(session):
    """A row is inserted under the key that is given; load=False copies what is there."""
    merged = session.merge(Account(id=41, secret="given", entries=[Entry(body="cascaded")]))
    session.merge(Account(secret="generated"))
    session.commit()
    assert merged.id == 41
    assert sorted(fresh(session, Account.secret)) == ["generated", "given"]
    assert fresh(session, Entry.body) == ["cascaded"]
    with Session(session.get_bind()) as other:
        account = other.get_one(Account, 41)
    with Session(session.get_bind()) as third:
        copy = third.merge(account, load=False)
        assert copy.secret == "given"
        copy.secret = "changed"
        third.commit()
    session.rollback()
    assert session.get_one(Account, 41).secret == "changed"


def test_a_row_is_copied_by_making_its_object_transient(session):
    """The copy gets a key of its own, and its value is sealed for that."""
    account = Account(secret="original")
    session.add(account)
    session.commit()
    assert account.secret == "original"
    session.expunge(account)
    make_transient(account)
    account.id = None
    session.add(account)
    session.commit()
    assert fresh(session, Account.secret) == ["original", "original"]


def test_an_object_without_its_session_keeps_what_it_has(session):
    """And says so for what it has not."""
    account = Account(secret="s", settings={})
    session.add(account)
    session.commit()
    session.refresh(account, ["secret"])
    session.expunge(account)
    assert account.secret == "s"
    with pytest.raises(DetachedInstanceError):
        _ = account.settings


# --- transactions --------------------------------------------------------------------------


def test_a_flush_that_failed_is_tried_again_with_the_same_objects(session):
    """Parents, children, and rows that were updated along with them."""
    known = Account(code="taken", secret="known")
    session.add(known)
    session.commit()
    new = Account(code="taken", secret="new", entries=[Entry(body="child")])
    other = Account(code="free", secret="other")
    known.secret = "changed"
    session.add_all([other, new])
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    assert known.secret == "known"
    known.secret, new.code = "changed", "free too"
    session.add_all([new, other])
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Account)).all()
    assert {each.code: each.secret for each in found} == {
        "taken": "changed", "free": "other", "free too": "new",
    }  # fmt: skip
    assert fresh(session, Entry.body) == ["child"]


def test_a_failed_flush_in_a_savepoint_leaves_what_was_before_and_after(session):
    """The outer transaction goes on, and commits only rows that are sealed."""
    session.add(Account(code="a", secret="before"))
    session.flush()
    for _ in range(2):
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add_all([
                Account(code="b", secret="lost"), Account(code="a", secret="twice"),
            ])  # fmt: skip
    session.add(Account(code="c", secret="after"))
    session.commit()
    assert fresh(session, Account.secret) == ["before", "after"]


@pytest.mark.parametrize("outer", ["commit", "rollback"])
@pytest.mark.parametrize("inner", ["commit", "rollback"])
def test_savepoints_within_savepoints(outer, inner, session):
    """Rows before, inside, between and after; inserted and changed."""
    first = Account(secret="first")
    session.add(first)
    session.flush()
    savepoint = session.begin_nested()
    session.add(Account(secret="outer"))
    session.flush()
    second = session.begin_nested()
    session.add(Account(secret="inner", entries=[Entry(body="inner")]))
    first.secret = "changed by inner"
    session.flush()
    getattr(second, inner)()
    session.add(Account(secret="between"))
    session.flush()
    getattr(savepoint, outer)()
    session.add(Account(secret="last"))
    session.commit()
    kept = outer == "commit" and inner == "commit"
    expected = {"last", "changed by inner" if kept else "first"}
    expected |= {"outer", "between"} if outer == "commit" else set()
    assert set(fresh(session, Account.secret)) == expected | ({"inner"} if kept else set())
    assert fresh(session, Entry.body) == (["inner"] if kept else [])


@on("mariadb")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_prepared_transaction_ends_either_way(end, session):
    """XA: rows with generated keys are sealed before PREPARE."""
    with Session(session.get_bind(), twophase=True) as prepared:
        prepared.add(Account(secret="s", entries=[Entry(body="b")]))
        prepared.prepare()
        getattr(prepared, end)()
    assert fresh(session, Account.secret) == (["s"] if end == "commit" else [])
    assert fresh(session, Entry.body) == (["b"] if end == "commit" else [])


# --- server-side values and versions -------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_eager_defaults_are_fetched_along_with_generated_keys(count, session):
    """One more column in RETURNING, for one row and for a batch."""
    rows = [Stamped(note=f"n{i}") for i in range(count)]
    session.add_all(rows)
    session.flush()
    assert not any("made" in inspect(row).unloaded for row in rows)
    assert [(row.made, row.note, row.revision) for row in rows] == [
        ("server", f"n{i}", 1) for i in range(count)
    ]
    for row in rows:
        row.note += "!"
    session.flush()
    assert [(row.changed, row.revision) for row in rows] == [("changed", 2)] * count
    session.commit()
    assert fresh(session, Stamped.note) == [f"n{i}!" for i in range(count)]
    assert fresh(session, Stamped.revision) == [2] * count


def test_a_stale_object_is_refused_and_a_deletion_is_counted(session):
    """The version of a row is 1 after it was sealed, and guards UPDATE and DELETE alike."""
    row = Stamped(note="n")
    session.add(row)
    session.commit()
    assert (row.revision, row.note) == (1, "n")
    writes = (lambda: setattr(row, "note", "mine"), lambda: session.delete(row))
    for revision, write in enumerate(writes, start=2):
        assert row.note is not None
        session.connection().execute(
            update(table(Stamped))
            .where(table(Stamped).c.id == row.id)
            .values(revision=revision, note=f"theirs {revision}")
        )
        write()
        with pytest.raises(StaleDataError):
            session.flush()
        session.rollback()
        assert (row.note, row.revision) == ("n", 1)


def test_a_scope_that_the_server_fills_in_is_read_back_before_sealing(session):
    """Generated keys and a default of the scope together; also where the class lacks the scope."""
    rows = [Tenanted(value="a"), Tenanted(value="b"), Tenanted(tenant="away", value="c")]
    untold: list[Any] = [Untold(value="d"), Untold(value="e")]
    session.add_all([*rows, *untold])
    session.flush()
    assert [row.tenant for row in rows] == ["home", "home", "away"]
    rows[0].value, untold[0].value = "A", "D"
    session.commit()
    query = select(Tenanted.tenant, Tenanted.value)
    assert sorted(session.execute(query).all()) == [
        ("away", "c"), ("home", "A"), ("home", "D"), ("home", "b"), ("home", "e"),
    ]  # fmt: skip


# --- hooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["before_insert", "before_update", "before_flush"])
def test_a_value_that_a_hook_sets_is_the_one_that_is_sealed(hook, session):
    """In place of the object's own, at the last moment."""
    if hook == "before_flush":

        def change(flushed: Session, *_: Any) -> None:
            for target in [*flushed.new, *flushed.dirty]:
                target.secret, target.settings = "hooked", {"by": hook}

        event.listen(session, hook, change)
    else:

        def change(_: Any, __: Any, target: Any) -> None:  # type: ignore[misc]
            target.secret, target.settings = "hooked", {"by": hook}

        event.listen(Account, hook, change)
    try:
        account = Account(secret="own")
        session.add_all([account, Account(secret="own")])
        session.flush()
        if hook == "before_update":
            account.secret = "changed"
        session.commit()
    finally:
        event.remove(session if hook == "before_flush" else Account, hook, change)
    hooked = [True, hook != "before_update"]
    assert fresh(session, Account.secret) == ["hooked" if each else "own" for each in hooked]
    assert fresh(session, Account.settings) == [{"by": hook} if each else None for each in hooked]


@pytest.mark.parametrize("hook", ["before_insert", "after_insert"])
def test_a_hook_that_inserts_rows_of_another_table(hook, session):
    """An audit trail, written through the connection while a flush is under way."""

    def audit(_: Any, connection: Any, target: Any) -> None:
        row = {"label": f"audit of {target.secret}"}
        connection.execute(insert(Node), row)
        connection.execute(insert(Node), [row, row])

    event.listen(Account, hook, audit)
    try:
        session.add_all([Account(secret="a"), Account(secret="b")])
        session.commit()
    finally:
        event.remove(Account, hook, audit)
    assert sorted(fresh(session, Node.label)) == ["audit of a"] * 3 + ["audit of b"] * 3
    assert fresh(session, Account.secret) == ["a", "b"]


def test_after_flush_a_hook_reads_and_writes_rows_that_are_sealed(session):
    """The application's after_flush comes behind the library's own."""
    seen: list[str] = []

    @event.listens_for(session, "after_flush")
    def read(flushed: Session, _: Any) -> None:
        connection = flushed.connection()
        seen.extend(connection.scalars(select(Account.secret)))
        connection.execute(insert(Node), [{"label": "x"}, {"label": "y"}])

    session.add(Account(secret="s"))
    session.commit()
    assert seen == ["s"]
    assert fresh(session, Node.label) == ["x", "y"]


# --- deleting and inserting again ----------------------------------------------------------


def test_delete_and_insert_under_the_same_key_in_one_flush(session):
    """SQLAlchemy makes one UPDATE of them; a child goes to another parent on the way."""
    accounts = [Account(id=1, secret="one"), Account(id=2, secret="two")]
    entry = Entry(id=7, account=accounts[0], body="old")
    session.add_all([*accounts, entry])
    session.commit()
    session.delete(entry)
    session.delete(accounts[1])
    session.add(Entry(id=7, account_id=1, body="new"))
    session.add(Account(id=2, secret=None, settings=[2]))
    session.commit()
    assert fresh(session, Entry.body) == ["new"]
    assert fresh(session, Account.secret) == ["one", None]
    assert fresh(session, Account.settings) == [None, [2]]
    session.expunge_all()
    session.delete(session.get_one(Entry, 7))
    session.add(Entry(id=7, account_id=2, body="elsewhere"))
    session.commit()
    assert fresh(session, Entry.body) == ["elsewhere"]


def test_a_row_that_is_gone_is_noticed_when_it_is_deleted_or_changed(session):
    """confirm_deleted_rows warns, and an UPDATE that hits nothing is stale."""
    session.add_all([Account(id=1, secret="a"), Account(id=2, secret="b")])
    session.commit()
    gone, changed = session.get_one(Account, 1), session.get_one(Account, 2)
    session.connection().execute(text("DELETE FROM kmsenv_life_accounts"))
    session.delete(gone)
    with pytest.warns(match="expected to delete 1 row"):
        session.flush()
    changed.secret = "c"
    with pytest.raises(StaleDataError):
        session.flush()
    session.rollback()
    assert fresh(session, Account.secret) == ["a", "b"]


# --- bulk and statements through the session -----------------------------------------------


@pytest.mark.parametrize("return_defaults", [False, True])
def test_bulk_save_objects_with_generated_keys(return_defaults, session):
    """New objects, changed ones, and rows with different columns, in their order."""
    known = Account(secret="known")
    session.add(known)
    session.commit()
    assert known.secret == "known"
    known.secret = "changed"
    new = [Account(secret="n1"), Account(settings=[1]), Account(secret="n2"), Account(secret="n3")]
    session.bulk_save_objects([known, *new], return_defaults=return_defaults)
    assert [each.id is not None for each in new] == [return_defaults] * 4
    session.commit()
    assert fresh(session, Account.secret)[0] == "changed"
    assert sorted(map(str, fresh(session, Account.secret))) == [
        "None", "changed", "n1", "n2", "n3",
    ]  # fmt: skip
    if return_defaults:
        session.expunge_all()
        assert [session.get_one(Account, each.id).secret for each in new] == [
            "n1",
            None,
            "n2",
            "n3",
        ]


@pytest.mark.parametrize("sort", [False, True])
def test_insert_returning_entities_in_the_order_of_the_parameters(sort, session):
    """With keys that the application gives; the entities are those of the session."""
    rows = [{"id": i, "value": f"v{i}"} for i in (5, 3, 9, 1, 7)]
    statement = insert(Keyed).returning(Keyed, sort_by_parameter_order=sort)
    found = session.scalars(statement, rows).all()
    given = [(row["id"], row["value"]) for row in rows]
    returned = [(each.id, each.value) for each in found]
    assert returned == given if sort else sorted(returned) == sorted(given)
    assert all(object_session(each) is session for each in found)
    found[0].value = "changed"
    session.commit()
    assert "changed" in fresh(session, Keyed.value)


@pytest.mark.parametrize("synchronize", ["auto", "evaluate", "fetch", False])
def test_an_update_by_key_brings_the_objects_of_the_session_up_to_date(synchronize, session):
    """They show the plaintext that was written, not the envelope."""
    row = Keyed(id=1, value="old")
    session.add(row)
    session.commit()
    assert row.value == "old"
    statement = update(Keyed).where(Keyed.id == 1).values(value="new")
    session.execute(statement, execution_options={"synchronize_session": synchronize})
    assert row.value == ("old" if synchronize is False else "new")
    if synchronize == "auto":
        session.execute(update(Keyed), [{"id": 1, "value": "bulk"}])
        assert row.value == "bulk"
    session.commit()
    assert fresh(session, Keyed.value) == ["bulk" if synchronize == "auto" else "new"]


def keyed(key: int) -> Any:
    """One lambda, whose SQL is cached under its place in the code."""
    return lambda_stmt(lambda: select(Keyed).where(Keyed.id == key))


def test_cached_statements_open_the_rows_of_each_execution(session):
    """lambda_stmt and the compiled cache: one SQL, other parameters, another alias."""
    session.add_all([Keyed(id=i, value=f"v{i}") for i in range(4)])
    session.commit()
    for i in range(4):
        assert [each.value for each in session.scalars(keyed(i))] == [f"v{i}"]
        where = select(Keyed.value).where(Keyed.id == bindparam("key"))
        assert session.scalars(where, {"key": i}).all() == [f"v{i}"]


def test_every_session_option_of_a_flush_seals(engine: Engine, session):
    """No autoflush, no expiry, and engines that log or do not cache."""
    plain = create_engine(engine.url, query_cache_size=0)
    with Session(plain, autoflush=False, expire_on_commit=False) as other:
        account = Account(secret="s", entries=[Entry(body="b")])
        other.add(account)
        assert other.scalars(select(Account.secret)).all() == []
        other.commit()
        assert (account.secret, account.entries[0].body) == ("s", "b")
        account.entries[0].body = "c"
        other.commit()
        assert account.entries[0].body == "c"
    plain.dispose()
    assert fresh(session, Entry.body) == ["c"]
