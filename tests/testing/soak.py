"""Writes and reads while the KMS fails: ``python -m tests.testing.soak --seconds 600``.

Several threads insert, update and read rows of a table through real boto3, with one
request in twenty failing in one way or another. What was committed must read back, at
once and in the end; the only error that an application may see is that the service was
not available.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    update,
)

from sqlalchemy_kmsenv import (
    CachePolicy,
    Encrypted,
    Keyring,
    KeyServiceUnavailableError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.testing import KmsServer, ServerKey, aws_kms

THREADS = 4
DEVICES = 20
FAULTS = {
    "throttling": 0.01,
    "internal": 0.01,
    "key-unavailable": 0.005,
    "dependency-timeout": 0.005,
    "reset": 0.01,
    "lost-answer": 0.005,
    "timeout": 0.005,
}
"""One request in twenty."""
CACHE = CachePolicy(max_age_seconds=0.5, max_messages=40, max_entries=10)
"""Small, so that nearly every statement needs the KMS."""


@dataclass
class Tally:
    """What happened; every write of a row that was committed is in ``rows``."""

    rows: dict[int, Any] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    """Codes of the last ten thousand requests in bad weather."""
    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *names: str) -> None:
        """Note that something happened."""
        with self.lock:
            self.done.update(names)


class Soak:
    """Threads that write and read rows of their own in one table."""

    def __init__(self, engine: Engine, server: KmsServer, seed: int) -> None:
        self.engine = engine
        self.server = server
        self.seed = seed
        self.tally = Tally()
        self.key: ServerKey = server.create_key(alias="alias/soak")
        self.metadata = MetaData()
        self.table = Table(
            "kmsenv_soak",
            self.metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("device_id", String(10), nullable=False),
            Column("position", Encrypted(JSON, scope=["device_id"])),
        )
        attach_keyrings(self.metadata, default=self.keyring())
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _share)

    def keyring(self) -> Keyring:
        """A new one, without any data key."""
        kms = aws_kms(
            self.server, self.key.arn, max_attempts=2,
            connect_timeout_seconds=1, read_timeout_seconds=0.5,
        )  # fmt: skip
        return Keyring(kms, cache=CACHE)

    def run(self, more: Callable[[], bool]) -> Tally:
        """Go on while ``more`` says so; then read everything in fine weather."""
        self.metadata.drop_all(self.engine)
        self.metadata.create_all(self.engine)
        for kind, probability in FAULTS.items():
            self.server.weather.fault(kind, probability=probability)
        try:
            with ThreadPoolExecutor(THREADS) as threads:
                for done in [threads.submit(self._work, i, more) for i in range(THREADS)]:
                    done.result()
            self.tally.failed = Counter(e.code for e in self.server.events if e.code is not None)
            self.server.weather.clear()
            self._read_all()
        finally:
            self.metadata.drop_all(self.engine)
        return self.tally

    def _work(self, number: int, more: Callable[[], bool]) -> None:
        chance = random.Random(f"{self.seed}:{number}")  # noqa: S311 - a choice of statements
        own: dict[int, Any] = {}
        while more():
            action = chance.choice([self._insert, self._insert, self._update, self._read])
            try:
                action(number, own, chance)
                self.tally.count(action.__name__.removeprefix("_"))
            except KeyServiceUnavailableError:
                self.tally.count("unavailable")
            except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
                with self.tally.lock:
                    self.tally.unexpected.append(f"{action.__name__}: {error!r}")
            if chance.random() < 0.01:
                self._rotate()
        with self.tally.lock:
            self.tally.rows |= own

    def _rotate(self) -> None:
        with self.tally.lock:
            if len(self.key.material_ids) < 20:
                self.key.rotate()

    def _insert(self, number: int, own: dict[int, Any], chance: random.Random) -> None:
        count = chance.randrange(1, 6)
        first = (len(own) + 1) * THREADS * 10 + number
        rows = {first + i * THREADS: _position(chance) for i in range(count)}
        rows = {i: value for i, value in rows.items() if i not in own}
        device = f"d{chance.randrange(DEVICES)}"
        with self.engine.begin() as connection:
            connection.execute(
                insert(self.table),
                [{"id": i, "device_id": device, "position": p} for i, p in rows.items()],
            )
        own |= rows

    def _update(self, _: int, own: dict[int, Any], chance: random.Random) -> None:
        if not own:
            return
        row, value = chance.choice(list(own)), _position(chance)
        with self.engine.begin() as connection:
            connection.execute(
                update(self.table).where(self.table.c.id == row).values(position=value)
            )
        own[row] = value

    def _read(self, _: int, own: dict[int, Any], chance: random.Random) -> None:
        wanted = chance.sample(list(own), min(len(own), 5))
        found = self._stored(self.table.c.id.in_(wanted))
        self._compare({i: own[i] for i in wanted}, found)

    def _read_all(self) -> None:
        attach_keyrings(self.metadata, default=self.keyring())
        found = self._stored()
        self._compare(self.tally.rows, found)
        stray = found.keys() - self.tally.rows.keys()
        self.tally.lost += [f"row {i} is there, and no commit was seen" for i in sorted(stray)]

    def _stored(self, *where: Any) -> dict[int, Any]:
        query = select(self.table.c.id, self.table.c.position).where(*where)
        with self.engine.connect() as connection:
            # All at once: seen on SQLite, an iteration that ends with an error which other threads
            # share can leave its cursor open for a while, and its connection unable to write.
            return {row.id: row.position for row in connection.execute(query).all()}

    def _compare(self, expected: dict[int, Any], found: dict[int, Any]) -> None:
        wrong = [i for i, value in expected.items() if i not in found or found[i] != value]
        with self.tally.lock:
            self.tally.lost += [f"row {i} does not read back" for i in wrong]


def _share(connection: Any, _: object) -> None:
    # Threads that write at once wait for each other; nothing has to survive a power cut.
    connection.execute("PRAGMA busy_timeout = 60000")
    connection.execute("PRAGMA synchronous = OFF")


def _position(chance: random.Random) -> dict[str, float]:
    return {"lat": chance.uniform(-90, 90), "lon": chance.uniform(-180, 180)}


def for_seconds(seconds: float) -> Callable[[], bool]:
    """True until the time is over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def for_operations(number: int) -> Callable[[], bool]:
    """True so many times, from all threads together."""
    left = iter(range(number))
    lock = threading.Lock()

    def more() -> bool:
        with lock:
            return next(left, None) is not None

    return more


def main() -> int:
    """Run, and say what happened; 1 where a value was lost or another error was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database", help="a URL; an SQLite file by default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as directory, KmsServer(seed=given.seed) as server:
        engine = create_engine(given.database or f"sqlite:///{directory}/soak.db")
        tally = Soak(engine, server, given.seed).run(for_seconds(given.seconds))
        asked = server.calls.total()
        engine.dispose()
    print(f"{dict(tally.done)}; rows kept: {len(tally.rows)}; requests to the KMS: {asked}")  # noqa: T201
    print(f"of the last 10,000 in bad weather failed: {dict(tally.failed)}")  # noqa: T201
    for line in [*tally.lost, *tally.unexpected]:
        print(line)  # noqa: T201
    return 1 if tally.lost or tally.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
