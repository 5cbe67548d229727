"""Re-wraps a table under a writer, is killed again and again, and shows that nothing was lost.

``python -m tests.rewrap.killed_jobs URL``: fills a table under two materials of one key,
moves it to another key while a writer updates and inserts throughout, and kills the job with
SIGKILL at random points. At the end every row must open to the value that the writer last
committed, every envelope be at the target, and no row be missing. It prints what it did as
JSON, and ends with status 1 where a claim does not hold. ``test_killed_jobs.py`` runs it small.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import Progress, TableCheckpoint, rewrap, survey

METADATA = MetaData()
NOTES = Table(
    "kmsenv_killed_jobs",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("text", Encrypted(String), nullable=False),
)
_URL = "KMSENV_KILLED_JOBS_URL"
_FILL_ROWS = 5000


def value(row: int, version: int) -> str:
    """What a row holds at a version: nobody else's value, and no other version's."""
    return f"row {row} at version {version}"


def old_keyring(directory: Path) -> Keyring:
    """The keyring that the table was written with."""
    return Keyring(LocalKms(directory / "old.json"))


def new_keyring(directory: Path) -> Keyring:
    """The keyring that the application, and the job, have by now."""
    old = LocalKms(directory / "old.json")
    return Keyring(LocalKms(directory / "new.json", rewraps_from=[old]), unwrap_only=[old])


def fill(engine: Engine, directory: Path, rows: int) -> None:
    """Rows with even keys under the old key, one half under each of two materials."""
    old = LocalKms.create(directory / "old.json")
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    for half in range(2):
        attach_keyrings(METADATA, default=old_keyring(directory))
        for start in range(half, rows, 2 * _FILL_ROWS):
            numbers = range(start, min(start + 2 * _FILL_ROWS, rows), 2)
            given = [{"id": 2 * n, "version": 0, "text": value(2 * n, 0)} for n in numbers]
            with engine.begin() as connection:
                connection.execute(insert(NOTES), given)
        old.rotate()
    LocalKms.create(directory / "new.json")


def write(engine: Engine, directory: Path, rows: int, seed: int) -> None:
    """Update and insert until the file ``stop`` is there; print what was committed."""
    attach_keyrings(METADATA, default=new_keyring(directory))
    chance = random.Random(seed)  # noqa: S311  a seed makes runs alike
    fresh = [*range(1, 2 * rows, 2)]
    chance.shuffle(fresh)
    done = {"updated": 0, "inserted": 0, "rolled_back": 0}
    ahead = 2 * rows
    parent = os.getppid()
    # Another parent means that the script itself was killed.
    while os.getppid() == parent and not (directory / "stop").exists():
        keys = chance.sample(range(0, 2 * rows, 2), 5)
        new = [ahead + 1, *(fresh[-2:])]
        try:
            with engine.begin() as connection:
                _update(connection, keys)
                given = [{"id": n, "version": 0, "text": value(n, 0)} for n in new]
                connection.execute(insert(NOTES), given)
        except OperationalError:
            # A deadlock with the page in hand: the database chose this one to give way.
            done["rolled_back"] += 1
            continue
        del fresh[-2:]
        ahead += 1
        done["updated"] += len(keys)
        done["inserted"] += len(new)
        time.sleep(0.002)
    print(json.dumps(done), flush=True)


def _update(connection: Any, keys: list[int]) -> None:
    query = select(NOTES.c.id, NOTES.c.version).where(NOTES.c.id.in_(keys)).with_for_update()
    given = [
        {"b_id": n, "version": version + 1, "text": value(n, version + 1)}
        for n, version in connection.execute(query)
    ]
    connection.execute(update(NOTES).where(NOTES.c.id == bindparam("b_id")), given)


def job(engine: Engine, directory: Path, checkpoint: str, batch_size: int) -> None:
    """The job itself; a line for each page tells the parent how far it is."""
    attach_keyrings(METADATA, default=new_keyring(directory))

    def tell(progress: Progress) -> None:
        print(progress.counts.rows, flush=True)

    where = TableCheckpoint() if checkpoint == "table" else directory / "checkpoint.json"
    report = rewrap(
        engine,
        METADATA,
        batch_size=batch_size,
        checkpoint=where,
        count_rows=False,
        on_progress=tell,
    )
    print(json.dumps(report.to_json()), flush=True)


def run(engine: Engine, arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The whole story, and what was found at the end."""
    chance = random.Random(arguments.seed)  # noqa: S311  a seed makes runs alike
    fill(engine, directory, arguments.rows)
    writer = _child("writer", arguments, directory)
    try:
        # So many pages a life at most, that the job outlives all kills but the last.
        pages = arguments.rows // arguments.batch_size // (arguments.kills + 1)
        reached = [
            _life(arguments, directory, chance.randint(1, pages), chance.random() / 50)
            for _ in range(arguments.kills)
        ]
        last = _child("job", arguments, directory)
        report = json.loads(_lines(last)[-1])
    finally:
        (directory / "stop").touch()
        written = json.loads(_lines(writer)[-1])
    return {
        "database": engine.dialect.name,
        "seed": arguments.seed,
        "checkpoint": arguments.checkpoint,
        "rows_at_first": arguments.rows,
        "kills": len(reached),
        "rows_when_killed": reached,
        "writer": written,
        "last_run": {**report["columns"][0]["counts"], "ok": report["ok"]},
        **checked(engine, directory, arguments.rows + written["inserted"]),
    }


def checked(engine: Engine, directory: Path, expected_rows: int) -> dict[str, Any]:
    """What the table holds at the end, against what it should."""
    attach_keyrings(METADATA, default=new_keyring(directory))
    with engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(NOTES))
    wrong = opened = 0
    for key, version, text in _all_rows(engine):
        opened += 1
        wrong += text != value(key, version)
    found = survey(engine, METADATA)
    again = rewrap(engine, METADATA)
    claims = {
        "no row is missing": rows == opened == expected_rows,
        "every row opens to the last committed value": wrong == 0,
        "every envelope is at the target": found.ok,
        "another run changes nothing": again.ok and again.counts.rewritten == 0,
    }
    return {"rows_at_last": rows, "claims": claims}


def _all_rows(engine: Engine) -> Iterator[Any]:
    last = -1
    while True:
        query = select(NOTES).where(NOTES.c.id > last).order_by(NOTES.c.id).limit(_FILL_ROWS)
        with engine.connect() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].id


def _life(arguments: argparse.Namespace, directory: Path, pages: int, seconds: float) -> int:
    """Start the job, let it do so many pages and a little more, and kill it."""
    child = _child("job", arguments, directory)
    stream = child.stdout
    if stream is None:
        raise TypeError(child)
    reached = 0
    for _ in range(pages):
        line = stream.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"the job ended by itself: {line}{stream.read()}")
        reached = int(line)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    stream.close()
    return reached


def _child(role: str, arguments: argparse.Namespace, directory: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "tests.rewrap.killed_jobs", "--role", role,
        "--directory", str(directory), "--rows", str(arguments.rows),
        "--seed", str(arguments.seed), "--checkpoint", arguments.checkpoint,
        "--batch-size", str(arguments.batch_size),
    ]  # fmt: skip
    # A URL may hold a password, which a command line would show to everyone.
    environment = {**os.environ, _URL: arguments.url}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _lines(child: subprocess.Popen[str]) -> list[str]:
    output, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"a process of this script ended with status {child.returncode}")
    return output.splitlines()


def main() -> int:
    """Run one role; the one without a name tells the whole story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default=os.environ.get(_URL))
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", choices=("table", "file"), default="table")
    parser.add_argument("--role", choices=("story", "writer", "job"), default="story")
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    if not arguments.url or arguments.rows < arguments.batch_size * (arguments.kills + 1):
        parser.error("give a URL, and more rows than kills take")
    engine = create_engine(arguments.url)
    try:
        if arguments.role == "writer":
            write(engine, arguments.directory, arguments.rows, arguments.seed)
            return 0
        if arguments.role == "job":
            job(engine, arguments.directory, arguments.checkpoint, arguments.batch_size)
            return 0
        with tempfile.TemporaryDirectory() as directory:
            found = run(engine, arguments, Path(directory))
        METADATA.drop_all(engine)
        print(json.dumps(found, indent=2))
        return 0 if all(found["claims"].values()) else 1
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
