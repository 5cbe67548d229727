"""execution_options(kmsenv_on_refusal="mark"): the rows that open are read, the others marked."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from sqlalchemy import ForeignKey, Integer, String, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    defer,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    InvalidValueError,
    Keyring,
    KeyServiceUnavailableError,
    LocalKms,
    Refused,
    UnboundValueError,
    WrongCellError,
    attach_keyrings,
    seal_cells,
)
from tests.columns.conftest import copy_stored, overwrite, stored
from tests.conftest import on

MARK: dict[str, Any] = {"kmsenv_on_refusal": "mark"}


def marked(session: Any, model: Any) -> Any:
    """The second row."""
    return session.get(model, 2, execution_options=MARK)


@pytest.fixture(autouse=True)
def rows(session, models):
    """Three rows; the note and the secret of the second do not open."""
    for n in (1, 2, 3):
        session.add(models.Ping(id=n, device_id=f"d{n}", note=f"n{n}", secret=f"s{n}", position=n))
    session.commit()
    copy_stored(session.connection(), models.table, "note", source=1, target=2)
    copy_stored(session.connection(), models.table, "secret", source=1, target=2)
    session.commit()


def test_the_statement_asks_for_marks(session, models, keyring):
    """Entities and columns; what opens is what it was, and every refusal is counted."""
    everyone = select(models.Ping).order_by(models.Ping.id).execution_options(**MARK)
    one, two, three = session.scalars(everyone).all()
    assert (one.note, one.secret, three.note, three.secret) == ("n1", "s1", "n3", "s3")
    assert isinstance(two.note, Refused)
    assert isinstance(two.secret, Refused)
    assert two.position == 2
    assert sum(keyring.stats().refusals.values()) == 2
    columns = select(models.table.c.note, models.table.c.secret).order_by(models.table.c.id)
    found = session.execute(columns, execution_options=MARK).all()
    assert [[type(value) for value in row] for row in found] == [
        [str, str], [Refused, Refused], [str, str],
    ]  # fmt: skip


def test_without_it_the_default_stays_an_error(session, models):
    """Also right after a statement that asked, from the same compiled form."""
    statement = select(models.Ping.note).order_by(models.Ping.id)
    for _ in range(2):
        assert len(session.scalars(statement, execution_options=MARK).all()) == 3
        with pytest.raises(WrongCellError):
            session.scalars(statement).all()
        with pytest.raises(WrongCellError):
            session.scalars(statement.execution_options(kmsenv_on_refusal="raise")).all()


def test_a_mark_says_why_and_is_false(session, models):
    """A template that asks ``if ping.note`` shows nothing, a person who prints it sees why."""
    (mark,) = session.scalars(
        select(models.Ping.note).where(models.Ping.id == 2), execution_options=MARK
    )
    assert not mark
    assert isinstance(mark.error, WrongCellError)
    assert (mark.cell.table, mark.cell.column) == ("kmsenv_pings", "note")
    assert repr(mark) == str(mark) == f"<Refused: {mark.error}>"
    assert "row (2)" in str(mark)
    assert mark.error.__traceback__ is None
    for twin in (pickle.loads(pickle.dumps(mark)), copy.deepcopy(mark)):  # noqa: S301  its own
        assert isinstance(twin, Refused)
        assert (str(twin), twin.cell) == (str(mark), mark.cell)


def test_connection_engine_and_session_ask_for_all_their_statements(engine, models):
    """Refreshes, expired attributes and deferred columns have no statement to ask in."""
    connection_of: dict[str, Any] = {
        "engine": engine.execution_options(**MARK),
        "connection": engine.connect().execution_options(**MARK),
    }
    for bind in connection_of.values():
        with Session(bind) as session:
            query = select(models.Ping).options(defer(models.Ping.note))
            two = session.scalars(query.where(models.Ping.id == 2)).one()
            assert isinstance(two.note, Refused)
            session.refresh(two)
            assert isinstance(two.secret, Refused)
            session.expire(two)
            assert isinstance(two.note, Refused)
            assert session.scalars(select(models.Ping.note)).all()[0] == "n1"
    connection_of["connection"].close()
    with Session(engine) as session:
        session.connection(execution_options=MARK)
        two = session.get(models.Ping, 2)
        assert two is not None
        assert isinstance(two.note, Refused)
    with Session(engine) as session, pytest.raises(WrongCellError):
        session.get(models.Ping, 2)


@pytest.mark.parametrize("loading", [joinedload, selectinload])
def test_eager_loading_is_marked_too(loading, engine, keyring):
    """A page is rarely one table."""

    class Base(DeclarativeBase):
        pass

    class Owner(Base):
        __tablename__ = "kmsenv_owners"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        cars = relationship("Car", order_by="Car.id")

    class Car(Base):
        __tablename__ = "kmsenv_cars"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        owner_id = mapped_column(ForeignKey("kmsenv_owners.id"))
        plate = mapped_column(Encrypted(String))

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Owner(id=1, cars=[Car(id=1, plate="p1"), Car(id=2, plate="p2")]))
        session.commit()
        copy_stored(
            session.connection(), Base.metadata.tables["kmsenv_cars"], "plate", source=1, target=2
        )
        session.commit()
        query = select(Owner).options(loading(Owner.cars)).execution_options(**MARK)
        owner = session.scalars(query).unique().one()
        assert [type(car.plate) for car in owner.cars] == [str, Refused]
    Base.metadata.drop_all(engine)


def test_such_a_row_is_loaded_to_be_deleted_or_mended(session, models):
    """By get(); what is not touched stays as it is stored."""
    two = marked(session, models.Ping)
    raw = stored(session.connection(), models.table.c.secret, models.table.c.id == 2)
    two.plain = "looked at"
    two.note = "mended"
    session.commit()
    assert stored(session.connection(), models.table.c.secret, models.table.c.id == 2) == raw
    assert session.scalar(select(models.Ping.note).where(models.Ping.id == 2)) == "mended"
    session.expunge_all()
    marked(session, models.Ping).secret = None
    session.commit()
    assert session.get(models.Ping, 2).secret is None
    overwrite(session.connection(), models.table, "note", b"plain", 3)
    session.expunge_all()
    session.delete(session.get(models.Ping, 3, execution_options=MARK))
    session.commit()
    assert session.get(models.Ping, 3) is None


def test_object_that_the_session_holds_expired_is_loaded_anew_with_marks(session, models):
    """get() refreshes it without the options, unless it is told to select it again."""
    marked(session, models.Ping)
    session.commit()
    with pytest.raises(WrongCellError):
        session.get(models.Ping, 2, execution_options=MARK)
    again = session.get(models.Ping, 2, populate_existing=True, execution_options=MARK)
    assert isinstance(again.secret, Refused)


def test_a_mark_is_no_change_to_an_object(session, models, statements):
    """Neither where it was loaded, nor where the object is merged or unpickled."""
    two = marked(session, models.Ping)
    session.flush()
    two.note = two.note
    assert not session.is_modified(two)
    session.flush()
    assert not any(each.startswith(("UPDATE", "INSERT")) for each in statements)
    again = pickle.loads(pickle.dumps(two.note))  # noqa: S301  its own
    two.note = again
    assert not session.is_modified(two)
    session.rollback()


def test_a_mark_that_meets_another_mark_in_a_merge_is_no_change(engine, models):
    """An object out of a cache, merged where its row is loaded as leniently."""
    with Session(engine.execution_options(**MARK)) as session:
        two = marked(session, models.Ping)
        session.expunge_all()
        merged = session.merge(two)
        assert isinstance(merged.note, Refused)
        assert not session.is_modified(merged)
        session.commit()


WRITES: dict[str, Any] = {
    "flush": lambda s, m, mark: (s.get(m.Ping, 1).__setattr__("note", mark), s.flush()),
    "new object": lambda s, m, mark: (s.add(m.Ping(id=9, note=mark)), s.flush()),
    "core insert": lambda s, m, mark: s.execute(insert(m.table), [{"id": 9, "note": mark}]),
    "values": lambda s, m, mark: s.execute(insert(m.table).values(id=9, note=mark)),
    "core update": lambda s, m, mark: s.execute(
        update(m.table).where(m.table.c.id == 1).values(note=mark)
    ),
    "orm bulk insert": lambda s, m, mark: s.execute(insert(m.Ping), [{"id": 9, "note": mark}]),
    "orm bulk update": lambda s, m, mark: s.execute(update(m.Ping), [{"id": 1, "note": mark}]),
    "bulk_insert_mappings": lambda s, m, mark: s.bulk_insert_mappings(
        m.Ping, [{"id": 9, "note": mark}]
    ),
    "bulk_save_objects": lambda s, m, mark: s.bulk_save_objects([m.Ping(id=9, note=mark)]),
    "merge": lambda s, m, mark: (s.merge(m.Ping(id=1, note=mark)), s.flush()),
    "json": lambda s, m, mark: s.execute(
        update(m.table).where(m.table.c.id == 1).values(position=mark)
    ),
    "by hand": lambda _, m, mark: seal_cells(m.table.c.note, [mark], [{"id": 1}]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_mark_cannot_be_written(write, engine, models, statements):
    """What it stands for would be lost."""
    with Session(engine) as session:
        mark = marked(session, models.Ping).note
        statements.clear()
        with pytest.raises(InvalidValueError, match="mark of a stored value that did not open"):
            WRITES[write](session, models, mark)
    assert not any(each.startswith(("UPDATE", "INSERT")) for each in statements)


@on("sqlite", "postgresql")
def test_returning_is_marked(session, models):
    """A row that is deleted may be one that does not open."""
    statement = delete(models.table).returning(models.table.c.note).execution_options(**MARK)
    found = session.execute(statement).scalars().all()
    assert sorted(map(str, filter(None, found))) == ["n1", "n3"]
    assert len(found) == 3


def test_streams_are_marked_row_by_row(session, engine, models):
    """Two results read by turns, one that asks and one that does not."""
    query = select(models.Ping.note).order_by(models.Ping.id)
    with Session(engine) as other:
        lenient = session.scalars(query.execution_options(yield_per=1, **MARK))
        strict = other.connection().execute(query)
        assert next(lenient) == "n1"
        assert strict.fetchone() == ("n1",)
        assert isinstance(next(lenient), Refused)
        with pytest.raises(WrongCellError):
            strict.fetchone()
        assert next(lenient) == "n3"
        lenient.close()
        strict.close()


def test_what_no_single_value_is_to_blame_for_stays_an_error(session, models, kms):
    """A page of marks would look like damage, where a retry or a correction helps."""
    lenient = select(models.Ping.note).execution_options(**MARK)

    class Away:
        def __getattr__(self, name):
            return getattr(kms, name)

        def unwrap(self, *_, **__):
            raise KeyServiceUnavailableError("away")

    attach_keyrings(models.Base.metadata, default=Keyring(Away()))
    with pytest.raises(KeyServiceUnavailableError):
        session.scalars(lenient).all()
    with pytest.raises(UnboundValueError):
        session.execute(select(models.table).order_by(models.table.c.note), execution_options=MARK)
    models.Base.metadata.info.clear()
    with pytest.raises(ConfigurationError, match="attach_keyrings"):
        session.scalars(lenient).all()


def test_a_key_that_is_disabled_or_not_listed_marks_its_values(session, models, kms, tmp_path):
    """Half of a rotation that went wrong must not hide the other half."""
    other = Keyring(LocalKms.create(tmp_path / "other.json"), unwrap_only=[kms])
    attach_keyrings(models.Base.metadata, default=other)
    session.add(models.Ping(id=4, device_id="d4", note="n4"))
    session.commit()
    lenient = select(models.Ping.note).order_by(models.Ping.id).execution_options(**MARK)
    attach_keyrings(models.Base.metadata, default=Keyring(kms))
    assert [type(note) for note in session.scalars(lenient)] == [str, Refused, str, Refused]


def test_another_value_of_the_option_is_refused_before_it_is_sent(session, models, statements):
    """A misspelt one would be lenient, or strict, without a word."""
    statements.clear()
    with pytest.raises(ConfigurationError, match='"raise", which is the default, or "mark"'):
        session.scalars(select(models.Ping.id), execution_options={"kmsenv_on_refusal": "skip"})
    assert statements == []


def test_async_sessions_ask_alike(tmp_path, keyring, models):
    """Statement, stream and get()."""

    async def read() -> list[Any]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(models.Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add_all(models.Ping(id=n, note=f"n{n}") for n in (1, 2))
            await session.commit()
            await session.run_sync(
                lambda s: copy_stored(s.connection(), models.table, "note", source=1, target=2)
            )
            await session.commit()
        async with AsyncSession(engine) as session:
            query = select(models.Ping.note).order_by(models.Ping.id)
            found = list((await session.scalars(query, execution_options=MARK)).all())
            streamed = await session.stream_scalars(query.execution_options(**MARK))
            found += await streamed.all()
            two: Any = await session.get(models.Ping, 2, execution_options=MARK)
            found.append(two.note)
        await engine.dispose()
        return found

    found = asyncio.run(read())
    assert [type(value) for value in found] == [str, Refused, str, Refused, Refused]
