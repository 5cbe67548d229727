"""What an audit hook is told when columns are written and read, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import (
    AuditError,
    EnvelopeError,
    Keyring,
    RefusalKind,
    WrongCellError,
    attach_keyrings,
    open_cells,
)
from tests.columns.conftest import copy_stored, overwrite, stored
from tests.columns.test_secrets import CANARY
from tests.conftest import on
from tests.keyring.test_audit import Fails, Journal


@pytest.fixture
def journal():
    """An empty journal."""
    return Journal()


@pytest.fixture
def keyring(kms, journal):
    """A keyring that writes into it."""
    return Keyring(kms, audit=journal)


@pytest.fixture
def rows(session, models, journal):
    """Six positions of two devices; what was told of them is forgotten."""
    for number in range(6):
        device = f"d{number % 2}"
        session.add(models.Ping(id=number, device_id=device, secret=CANARY, note=CANARY))
    session.commit()
    session.expire_all()
    written = list(journal)
    journal.clear()
    return written


def uses(journal):
    """Operation, column, device and number of each record."""
    return [
        (use.operation, use.context["kmsenv:column"], use.context.get("device_id"), use.values)
        for use in journal
    ]


def test_writing_tells_of_each_data_key_and_its_values(rows):
    """One record a batch and data key, never one a value."""
    assert sorted(uses(rows), key=str) == [
        ("generate", "note", None, None),
        ("generate", "secret", "d0", None),
        ("generate", "secret", "d1", None),
        ("seal", "note", None, 6),
        ("seal", "secret", "d0", 3),
        ("seal", "secret", "d1", 3),
    ]
    assert {use.keyring for use in rows} == {"default"}


def test_every_statement_that_reads_is_told_of_anew(session, models, rows, journal):
    """Who read device d1's secrets, also while its data key was held already."""
    query = select(models.Ping.secret).where(models.Ping.device_id == "d1")

    for _ in range(3):
        assert session.scalars(query).all() == [CANARY] * 3

    assert uses(journal) == [
        ("unwrap", "secret", "d1", None),
        ("open", "secret", "d1", None),
        ("open", "secret", "d1", None),
        ("open", "secret", "d1", None),
    ]


def test_one_statement_is_told_of_once_for_each_data_key(session, models, rows, journal):
    """A result of a million rows must not make a million records."""
    session.execute(select(models.Ping.note, models.Ping.secret)).all()
    journal.clear()

    session.execute(select(models.Ping.note, models.Ping.secret)).all()

    assert sorted(uses(journal), key=str) == [
        ("open", "note", None, None),
        ("open", "secret", "d0", None),
        ("open", "secret", "d1", None),
    ]


def test_each_thread_is_told_of(engine, models, session, rows, journal):
    """The remembered data keys of a column are shared, what was read is not."""

    def read(_):
        with Session(engine) as own:
            return own.scalars(select(models.Ping.note)).all()

    session.rollback()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(12)))

    assert uses(journal).count(("open", "note", None, None)) >= 12


def test_two_results_read_by_turns_are_both_told_of(session, models, rows, journal):
    """What a thread reads is told again whenever it has executed something in between."""
    query = select(models.Ping.note)
    first = session.execute(query)
    first.fetchone()
    second = session.execute(query)
    second.fetchone()
    first.fetchone()

    assert uses(journal).count(("open", "note", None, None)) >= 2


def test_nothing_is_opened_where_the_hook_fails(session, engine, models, rows, kms):
    """Not even from a data key that is held already."""
    attach_keyrings(models.Base.metadata, default=Keyring(kms, audit=Fails("open")))

    for _ in range(2):
        with pytest.raises(AuditError):
            session.scalars(select(models.Ping.note)).all()


def test_nothing_is_sent_where_the_hook_fails(session, models, rows, kms, statements):
    """The INSERT would hold a value that was never accounted for."""
    attach_keyrings(models.Base.metadata, default=Keyring(kms, audit=Fails("seal")))
    session.add(models.Ping(id=99, note=CANARY))
    statements.clear()

    with pytest.raises(AuditError):
        session.flush()

    assert not [statement for statement in statements if statement.startswith("INSERT")]


def test_moved_value_is_told_of_with_the_place_that_it_was_found_at(
    session, models, rows, journal, keyring
):
    """An attack, or a broken migration: both are for the journal."""
    copy_stored(session.connection(), models.table, "secret", source=0, target=2)

    with pytest.raises(WrongCellError):
        session.scalars(select(models.Ping.secret).where(models.Ping.id == 2)).all()

    refused = journal[-1]
    assert (refused.operation, refused.outcome, refused.error) == (
        "open",
        "refused",
        "WrongCellError",
    )
    assert (refused.context["device_id"], refused.values) == ("d0", 1)
    assert refused.key_arn == keyring.services[0].resolve()
    assert keyring.stats().values_refused == 1


def test_forged_cell_is_told_of_although_it_names_no_key(session, models, rows, journal, keyring):
    """Whoever can write to the table can make it look like an envelope at a guessed place."""
    real = stored(session.connection(), models.table.c.note, models.table.c.id == 1)
    # Behind the parts of a longer key an envelope begins where this one has its own second one.
    forged = b"\xe5\x01" + b"\xff" + real
    session.add_all(models.Ping(id=n, device_id="d9", note=CANARY) for n in (1000, 1001))
    session.flush()
    overwrite(session.connection(), models.table, "note", forged, 2)
    longer_keys_first = select(models.Ping.note).where(models.Ping.id.in_([2, 1000, 1001]))

    with pytest.raises(EnvelopeError):
        session.scalars(longer_keys_first.order_by(models.Ping.id.desc())).all()

    refused = journal[-1]
    assert (refused.operation, refused.error, refused.key_arn) == ("open", "EnvelopeError", None)
    assert refused.refusal is RefusalKind.NO_ENVELOPE
    assert refused.context["kmsenv:column"] == "note"
    assert keyring.stats().values_refused == 1


def test_opened_values_are_counted(session, models, rows, keyring):
    """Per keyring, over all columns."""
    session.scalars(select(models.Ping)).all()

    stats = keyring.stats()

    assert (stats.values_sealed, stats.values_opened) == (12, 12)


def test_cells_opened_by_hand_are_told_of(session, models, rows, journal):
    """A pipeline is a reader too."""
    cell = stored(session.connection(), models.table.c.note, models.table.c.id == 1)

    for _ in range(2):
        open_cells(models.Ping.note, [cell], [{"id": 1}])

    assert uses(journal)[-2:] == [("open", "note", None, None)] * 2


def test_no_record_holds_a_value(session, models, rows, journal):
    """Also not where the stored bytes are no envelope."""
    overwrite(session.connection(), models.table, "note", CANARY.encode(), 3)
    session.scalars(select(models.Ping.secret)).all()
    with pytest.raises(EnvelopeError, match="not an envelope"):
        session.scalars(select(models.Ping.note)).all()

    shown = repr([*rows, *journal]) + repr([use.to_dict() for use in (*rows, *journal)])

    assert CANARY not in shown


@on("sqlite")
def test_async_reader_is_told_of(tmp_path, models, journal):
    """The result of an async engine is opened in the thread that asked for it."""

    async def write_and_read_twice():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(models.Base.metadata.create_all)
            await connection.execute(models.table.insert(), [{"id": 1, "note": CANARY}])
        async with engine.connect() as connection:
            for _ in range(2):
                assert (await connection.execute(select(models.Ping.note))).all() == [(CANARY,)]
        await engine.dispose()

    asyncio.run(write_and_read_twice())

    assert uses(journal).count(("open", "note", None, None)) == 2


@on("sqlite", "postgresql")
def test_each_task_of_an_event_loop_is_told_of(engine, models, rows, keyring):
    """Tasks take turns in one thread: who read is the task's user, whoever came in between."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    user: ContextVar[str] = ContextVar("user")
    told: list[tuple[str, str]] = []
    attach_keyrings(
        models.Base.metadata,
        default=Keyring(
            keyring.services[0], audit=lambda use: told.append((user.get(), use.operation))
        ),
    )

    async def read(connection, name, gate):
        user.set(name)
        result = await connection.execute(select(models.Ping.note))
        await gate.wait()
        assert len(result.scalars().all()) == 6

    async def main():
        async_engine = create_async_engine(engine.url.set(drivername=driver[engine.dialect.name]))
        gate = asyncio.Event()
        names = [f"u{number}" for number in range(5)]
        connections = [await async_engine.connect() for _ in names]
        tasks = [
            asyncio.create_task(read(connection, name, gate))
            for connection, name in zip(connections, names, strict=True)
        ]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)
        for connection in connections:
            await connection.close()
        await async_engine.dispose()
        return names

    names = asyncio.run(main())
    assert sorted(name for name, operation in told if operation == "open") == names
