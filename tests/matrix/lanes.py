"""The databases, and the drivers, that the matrix runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from tests.matrix.models import SCHEMA
from tests.servers import server_url

T = TypeVar("T")


@dataclass(frozen=True)
class Lane:
    """One driver of one database."""

    name: str
    database: str
    """Whose outcomes it must have."""
    driver: str
    is_async: bool = False
    share: tuple[int, int] = (0, 4)
    """Of pairs, it runs cell ``i`` of every ``n``: the database is an axis like the others."""

    @property
    def server(self) -> str | None:
        """What the tests call the server that it needs."""
        return {"sqlite": None, "postgresql": "postgresql"}.get(self.database, "mariadb")


LANES = {
    lane.name: lane
    for lane in (
        Lane("sqlite", "sqlite", "sqlite+pysqlite", share=(0, 4)),
        Lane("postgresql", "postgresql", "postgresql+psycopg", share=(1, 4)),
        Lane("mysql", "mysql", "mysql+pymysql", share=(2, 4)),
        Lane("mariadb", "mariadb", "mariadb+pymysql", share=(3, 4)),
        Lane("aiosqlite", "sqlite", "sqlite+aiosqlite", is_async=True, share=(4, 20)),
        Lane("asyncpg", "postgresql", "postgresql+asyncpg", is_async=True, share=(5, 20)),
        Lane("psycopg2", "postgresql", "postgresql+psycopg2", share=(9, 20)),
        Lane("pg8000", "postgresql", "postgresql+pg8000", share=(13, 20)),
        Lane("mysqlconnector", "mysql", "mysql+mysqlconnector", share=(6, 20)),
        Lane("asyncmy", "mysql", "mysql+asyncmy", is_async=True, share=(10, 20)),
    )
}


def connected(lane: Lane, directory: Path) -> Engine:
    """An engine, with the second schema behind it; that of an async driver is for a greenlet."""
    if lane.server is None:
        url = make_url(f"{lane.driver}:///{directory / 'main.db'}")
    else:
        url = make_url(server_url(lane.server)).set(drivername=lane.driver)
    options: dict[str, Any] = {}
    if lane.driver == "postgresql+psycopg2":
        # As in every release of SQLAlchemy for the other drivers.
        options["use_insertmanyvalues"] = True
    if lane.is_async:
        engine = create_async_engine(url, **options).sync_engine
    else:
        engine = create_engine(url, **options)
    if lane.server is None:
        event.listen(engine, "connect", _sqlite(directory))
    if lane.database == "postgresql":
        event.listen(engine, "connect", _postgresql)
    if lane.server is not None:
        kind = "SCHEMA" if lane.database == "postgresql" else "DATABASE"
        with engine.begin() as connection:
            connection.execute(text(f"CREATE {kind} IF NOT EXISTS {SCHEMA}"))
    return engine


def within(lane: Lane, function: Callable[[], T]) -> T:
    """Call a function where the lane's engine can be used."""
    if not lane.is_async:
        return function()

    async def call() -> T:
        return await greenlet_spawn(function)

    return asyncio.run(call())


def _sqlite(directory: Path) -> Callable[[Any, Any], None]:
    def connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"ATTACH '{directory / 'other.db'}' AS {SCHEMA}")
        for name in ("main", SCHEMA):
            # Nothing here has to outlive a crash.
            cursor.execute(f"PRAGMA {name}.synchronous=OFF")
            cursor.execute(f"PRAGMA {name}.journal_mode=MEMORY")
        cursor.close()

    return connect


def _postgresql(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit=off")
    cursor.close()
    connection.commit()
