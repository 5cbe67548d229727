"""Sessions beside others: shared connections, several databases, hooks that save, validators."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    query_expression,
    validates,
    with_expression,
)

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    EnvelopeError,
    InvalidValueError,
    Keyring,
    attach_keyrings,
)
from tests.conftest import on


class Base(DeclarativeBase):
    pass


class Folder(Base):
    """Its key is the server's."""

    __tablename__ = "kmsenv_sessions_folders"
    id = mapped_column(Integer, primary_key=True)
    title = mapped_column(Encrypted(String))
    shown: Mapped[str | None] = query_expression()

    @validates("title")
    def _check(self, _: str, value: Any) -> Any:
        if value == "forbidden":
            raise ValueError("forbidden")
        return value


@pytest.fixture
def clean(engine, keyring):
    """Empty tables on each database."""
    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


@pytest.fixture
def session(clean):
    """A session on the empty tables."""
    with Session(clean) as session:
        yield session


def titles(session):
    """What is committed, by title; every value opened."""
    with Session(session.get_bind()) as fresh:
        return sorted(title for title in fresh.scalars(select(Folder.title)) if title is not None)


@on("postgresql", "mariadb")
def test_two_sessions_share_a_connection(clean):
    """A session joined to a transaction from outside; the test suite's way of rolling back.

    Python's sqlite3 begins no transaction for a savepoint, with plain columns too.
    """
    with clean.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as first:
            first.add(Folder(title="one"))
            first.commit()
        with Session(connection, join_transaction_mode="create_savepoint") as second:
            second.add(Folder(title="two"))
            second.rollback()
            assert second.scalars(select(Folder.title)).all() == ["one"]
        outer.rollback()
    assert titles(Session(clean)) == []


def test_two_binds_are_flushed_each_on_its_own(clean, keyring, tmp_path):
    """One session, two databases: each seals what it inserted."""

    class Elsewhere(DeclarativeBase):
        pass

    class Entry(Elsewhere):
        __tablename__ = "kmsenv_sessions_entries"
        id = mapped_column(Integer, primary_key=True)
        line = mapped_column(Encrypted(String))

    attach_keyrings(Elsewhere.metadata, keyring)
    second = create_engine(f"sqlite:///{tmp_path / 'second.db'}")
    Elsewhere.metadata.create_all(second)
    with Session(binds={Base: clean, Elsewhere: second}) as session:
        session.add_all([Folder(title="here"), Entry(line="there"), Entry(line="there too")])
        session.commit()
        assert session.scalars(select(Entry.line).order_by(Entry.id)).all() == [
            "there", "there too",
        ]  # fmt: skip
        assert session.scalars(select(Folder.title)).all() == ["here"]


def test_two_binds_on_one_connection_seal_each_its_own_rows(keyring):
    """Shards that a hook tells apart by an option; the UPDATE of one must not reach the other."""

    class Shards(DeclarativeBase):
        pass

    class Entry(Shards):
        __tablename__ = "entries"
        __table_args__ = {"schema": "shard"}
        id = mapped_column(Integer, primary_key=True)
        line = mapped_column(Encrypted(String))

    attach_keyrings(Shards.metadata, keyring)
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def choose(connection, _, statement, parameters, *__):
        return statement.replace("shard.", connection.get_execution_options()["shard"]), parameters

    names = ("east", "west")
    shards = {name: engine.execution_options(shard=f"{name}_") for name in names}
    for shard in shards.values():
        Shards.metadata.create_all(shard)
    with ShardedSession(
        shards=shards,
        shard_chooser=lambda _, entry, __=None: entry.line,
        identity_chooser=lambda *_, **__: names,
        execute_chooser=lambda _: names,
    ) as session:
        session.add_all([Entry(line=name) for name in names])
        session.commit()
    for name, shard in shards.items():
        with shard.connect() as connection:
            assert connection.execute(select(Entry.id, Entry.line)).all() == [(1, name)]


def test_a_flush_inside_of_a_hook_seals_its_own_rows(session):
    """after_flush_postexec may add and flush again."""
    added: list[Folder] = []

    @event.listens_for(session, "after_flush_postexec")
    def once(session, _):
        if not added:
            added.append(Folder(title="second"))
            session.add(added[0])

    session.add(Folder(title="first"))
    session.commit()
    assert titles(session) == ["first", "second"]


def test_a_refused_value_leaves_the_session_usable(session):
    """The validator's error and the library's own."""
    with pytest.raises(ValueError, match="forbidden"):
        Folder(title="forbidden")
    session.add(Folder(title=object()))
    with pytest.raises(InvalidValueError, match="Python type object"):
        session.flush()
    session.rollback()
    session.add(Folder(title="fine"))
    session.commit()
    assert titles(session) == ["fine"]


@on("sqlite", "mariadb")
def test_reading_before_the_flush_has_ended_is_an_error(session):
    """An after_insert hook does not get an empty value for one that will be there."""

    def read(_, connection, target):
        connection.execute(select(Folder.title).where(Folder.id == target.id)).all()

    event.listen(Folder, "after_insert", read)
    try:
        session.add(Folder(title="x"))
        with pytest.raises(EnvelopeError):
            session.flush()
    finally:
        event.remove(Folder, "after_insert", read)


def test_an_attribute_that_a_query_fills_in_is_opened(session):
    """with_expression: the column reaches the object under another name."""
    session.add(Folder(title="seen twice"))
    session.commit()
    query = select(Folder).options(with_expression(Folder.shown, Folder.title))
    assert session.scalars(query).one().shown == "seen twice"


@on("postgresql", "mariadb")
def test_a_connection_that_is_lost_in_a_transaction_is_reported_as_that(engine, models):
    """The error of the driver says what to do; one about a rollback would hide it."""
    own = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
    cut = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
    name = engine.dialect.name

    def lose_it():
        with engine.begin() as connection:
            connection.execute(insert(models.table), [{"id": 1, "note": "a"}])
            number = connection.exec_driver_sql(own[name]).scalar_one()
            with engine.connect() as other:
                other.exec_driver_sql(cut[name].format(number))
            connection.execute(insert(models.table), [{"id": 2, "note": "b"}])

    with pytest.raises(OperationalError):
        lose_it()

    with engine.connect() as connection:
        assert connection.execute(select(models.table.c.note)).all() == []


def test_a_pickled_statement_finds_the_keyring_of_its_table(engine, metadata, keyring, kms):
    """Its table comes with a MetaData of its own, which has none."""
    notes = Table(
        f"kmsenv_pickled_{engine.dialect.name}",  # Looked for in the whole process.
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String)),
    )
    statements = pickle.dumps([insert(notes).values(id=1, text="x"), select(notes)])
    with engine.begin() as connection:
        metadata.create_all(connection)
        written, read = pickle.loads(statements)  # noqa: S301  made above
        with pytest.raises(ConfigurationError):
            connection.execute(written)
        attach_keyrings(metadata, keyring)
        connection.execute(written)
        assert connection.execute(read).all() == [(1, "x")]
        other = MetaData()
        notes.to_metadata(other)
        attach_keyrings(other, Keyring(kms))  # Two tables could be meant from now on.
        with pytest.raises(ConfigurationError):
            connection.execute(pickle.loads(statements)[0])  # noqa: S301  likewise
