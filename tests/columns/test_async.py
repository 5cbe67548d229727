"""Async engines: the same hooks, in the same order."""

import asyncio

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm.exc import StaleDataError

from sqlalchemy_kmsenv import UnboundValueError, WrongCellError
from tests.columns.conftest import copy_stored
from tests.conftest import ABSENT


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The databases whose async drivers are supported."""
    if request.param in ABSENT:
        pytest.skip(ABSENT[request.param])
    return request.param


@pytest.fixture
def url(engine, database):
    """The async URL of the same database."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[database]
    return engine.url.set(drivername=driver)


def test_an_async_session_writes_reads_and_refuses(url, models):
    """A value is sealed and opened under AsyncSession as under Session."""
    Ping = models.Ping

    async def main():
        engine = create_async_engine(url)
        try:
            async with AsyncSession(engine) as session:
                rows = [Ping(id=i, note=f"n{i}", secret="x" * (1 << 20)) for i in (1, 2)]
                session.add_all(rows)
                await session.commit()
                session.expunge_all()
                first = await session.get_one(Ping, 1)
                assert (first.note, len(first.secret)) == ("n1", 1 << 20)
                first.secret = "changed"
                await session.execute(update(Ping), [{"id": 2, "secret": "bulk"}])
                await session.commit()
                values = await session.scalars(select(Ping.secret).order_by(Ping.id))
                assert values.all() == ["changed", "bulk"]
                stream = await session.stream_scalars(select(Ping.note).order_by(Ping.id))
                assert [note async for note in stream] == ["n1", "n2"]
                with pytest.raises(UnboundValueError):
                    await session.execute(insert(Ping), [{"note": "x"}])
                connection = await session.connection()
                await connection.run_sync(
                    lambda c: copy_stored(c, models.table, "note", source=1, target=2)
                )
                with pytest.raises(WrongCellError):
                    (await session.scalars(select(Ping.note))).all()
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_a_driver_that_does_not_count_rows_loses_no_write(url, models):
    """The scope is read where a guard that hits no row would go unnoticed."""
    Ping = models.Ping

    async def main():
        engine = create_async_engine(url)
        try:
            async with AsyncSession(engine, expire_on_commit=False) as stale:
                rows = [Ping(id=i, device_id="old", secret="before") for i in (1, 2)]
                stale.add_all(rows)
                await stale.commit()
                async with AsyncSession(engine) as other:
                    moved = update(models.table).where(models.table.c.id == 2)
                    await other.execute(
                        moved.values(device_id="new", secret="moved", note=None, position=None)
                    )
                    await other.commit()
                for row in rows:
                    row.secret = "after"
                if engine.dialect.supports_sane_multi_rowcount:
                    with pytest.raises(StaleDataError):
                        await stale.commit()
                    expected = ["before", "moved"]
                else:
                    await stale.commit()
                    expected = ["after", "after"]
            async with AsyncSession(engine) as session:
                values = await session.scalars(select(Ping.secret).order_by(Ping.id))
                assert values.all() == expected
        finally:
            await engine.dispose()

    asyncio.run(main())
