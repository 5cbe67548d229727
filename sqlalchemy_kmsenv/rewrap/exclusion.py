"""One job at a time: a lock that the database, or a file, gives up when its holder dies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, TextClause, bindparam, text

from sqlalchemy_kmsenv.rewrap.private_files import held_file, lock_file

_POSTGRESQL = text("SELECT pg_catalog.pg_try_advisory_lock(CAST(:name AS pg_catalog.int8))")
_MYSQL = text("SELECT GET_LOCK(:name, 0)")
_TRIES, _PAUSE_SECONDS = 30, 0.1
"""A server takes a moment to notice that a job was killed, and holds its lock until then."""


@contextmanager
def held_name(engine: Engine, name: str) -> Iterator[bool]:
    """Hold a name in this database inside of the block; False where somebody else does."""
    digest = hashlib.sha256(name.encode()).digest()
    backend = engine.dialect.name
    if backend == "sqlite":
        path = engine.url.database
        if not path or path == ":memory:" or path.startswith("file:"):
            yield True
            return
        lock = Path(f"{path}.kmsenv-{digest.hex()[:16]}.lock")
        with held_file(lock_file(lock), lock) as got:
            yield got
        return
    if backend == "postgresql":
        query, given = _POSTGRESQL, int.from_bytes(digest[:8], "big", signed=True)
    else:
        query, given = _MYSQL, f"kmsenv-{digest.hex()[:32]}"  # type: ignore[assignment]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Not one of the pool's: it is held as long as the job takes, and closed with the lock.
        connection.detach()
        yield _got(connection, query.bindparams(bindparam("name", given)))


def _got(connection: Connection, query: TextClause) -> bool:
    for _ in range(_TRIES):
        if connection.scalar(query):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False
