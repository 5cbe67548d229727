"""Flushes a few rows with server-generated keys, and is killed at one point after the other.

Run by ``test_server_keys.py``: ``python -m tests.columns.killed_flush URL KEYS POINTS``. Each point
has a process of its own. Prints how each ended: 0 when it got past every point, and -9 otherwise.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Integer, MetaData, String, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings


class Base(DeclarativeBase):
    """The models of this file."""

    metadata = MetaData()


class Note(Base):
    """A row that the server numbers."""

    __tablename__ = "kmsenv_killed"
    id = mapped_column(Integer, primary_key=True)
    point = mapped_column(Integer, nullable=False)
    text = mapped_column(Encrypted(String), nullable=False)
    more = mapped_column(Encrypted(JSON))


def main(url: str, keys: str, points: int) -> None:
    """Print how each process ended."""
    print(json.dumps([end_of(partial(flush, url, keys, point)) for point in range(points)]))


def end_of(work: Callable[[], None]) -> int:
    """Work in a fork, and how that ended."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def flush(url: str, keys: str, point: int) -> None:
    """Flush and commit, or die on the way."""
    engine = create_engine(url)
    attach_keyrings(Base.metadata, default=Keyring(LocalKms(Path(keys))))
    passed = 0

    def reached(*_: Any) -> None:
        nonlocal passed
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    with Session(engine) as session:
        session.connection()
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(engine, name, reached)
        session.add_all(
            [Note(point=point, text=f"text {i}", more=[i] if i % 2 else None) for i in range(4)]
        )
        session.flush()
        session.add(Note(point=point, text="text 4", more=[4]))
        session.commit()
        reached()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
