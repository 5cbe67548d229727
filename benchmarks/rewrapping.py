"""Re-wrap beside the bare UPDATE loop over the same rows and pages, KMS calls, and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine, LargeBinary, bindparam, column, create_engine, insert, select, table
from sqlalchemy import update as sql_update

from benchmarks import report
from benchmarks.memory import peak_resident
from benchmarks.models import Base, Sealed
from benchmarks.subject import text
from benchmarks.timing import Samples, interleave, settle, timed
from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import rewrap

PAGE = 1000
VALUE_CHARACTERS = 32
RATIO_TARGET = 0.7
MEMORY_ROWS = (10_000, 1_000_000)
MEMORY_TARGET = 1.2
_FILL_ROWS = 10_000
_MIB = 1 << 20
_RAW = table(Sealed.__tablename__, column("id"), column("value", LargeBinary()))


def run(console: Console, rounds: int, rows: int, url: str, directory: Path) -> None:
    """Measure on the database at ``url``; its table is dropped again."""
    engine = create_engine(url)
    kms = _key(directory)
    attach_keyrings(Base.metadata, Keyring(kms))
    calls: list[int] = []
    try:
        _fill(engine, rows)
        settle()
        contenders = {
            "bare UPDATE loop": partial(_bare, engine),
            "re-wrap": partial(_rewrap, engine, kms, calls),
        }
        times = interleave(rounds, contenders)
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()
    _show(console, engine.dialect.name, rows, times, max(calls))


def run_memory(console: Console, directory: Path) -> None:
    """Peak memory of the job in a fresh process, on SQLite, for few and for many rows."""
    made = report.table(
        "Peak resident memory of a re-wrap, sqlite",
        "rows",
        "peak",
        "to the first",
        "target",
        "reached",
    )
    first = 0
    for rows in MEMORY_ROWS:
        url = f"sqlite:///{directory / f'memory-{rows}.sqlite'}"
        engine = create_engine(url)
        kms = _key(directory)
        attach_keyrings(Base.metadata, Keyring(kms))
        _fill(engine, rows)
        engine.dispose()
        kms.rotate()
        peak = _peak(url, directory)
        first = first or peak
        target = MEMORY_TARGET if first != peak else None
        reached = report.at_most(peak / first, target)
        made.add_row(f"{rows:,}", f"{peak / _MIB:.1f} MiB", f"{peak / first:.2f}", *reached)
    report.show(console, made)


def _key(directory: Path) -> LocalKms:
    path = directory / "rewrap.key"
    return LocalKms(path) if path.exists() else LocalKms.create(path)


def _fill(engine: Engine, rows: int) -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    for start in range(0, rows, _FILL_ROWS):
        numbers = range(start + 1, min(start + _FILL_ROWS, rows) + 1)
        given = [{"id": number, "value": text(VALUE_CHARACTERS)} for number in numbers]
        with engine.begin() as connection:
            connection.execute(insert(Sealed), given)


def _bare(engine: Engine) -> float:
    """Read each page by key, write each of its values again by key, commit."""
    query = select(_RAW).where(_RAW.c.id > bindparam("last")).order_by(_RAW.c.id).limit(PAGE)
    same = _RAW.c.id == bindparam("row")
    statement = sql_update(_RAW).where(same).values(value=bindparam("new", type_=LargeBinary()))

    def work() -> None:
        last = 0
        while True:
            with engine.begin() as connection:
                rows = connection.execute(query, {"last": last}).all()
                if not rows:
                    return
                connection.execute(statement, [{"row": row, "new": new} for row, new in rows])
                last = rows[-1].id

    return timed(work)


def _rewrap(engine: Engine, kms: LocalKms, calls: list[int]) -> float:
    kms.rotate()
    counted: list[int] = []

    def work() -> None:
        done = rewrap(
            engine, Base.metadata, columns=[Sealed.value], batch_size=PAGE, count_rows=False
        )
        if not done.ok or done.counts.rewritten != done.counts.rows:
            raise RuntimeError(done)
        counted.append(done.counts.kms_calls)

    seconds = timed(work)
    calls += counted
    return seconds


def _show(
    console: Console, database: str, rows: int, times: dict[str, Samples], calls: int
) -> None:
    made = report.table(
        f"Re-wrap of {rows:,} rows of {VALUE_CHARACTERS} characters, pages of {PAGE:,}, {database}",
        "", "time", "rows a second", "rows a second / bare loop", "target", "reached",
    )  # fmt: skip
    bare = times["bare UPDATE loop"]
    for name, measured in times.items():
        speed = bare.over(measured)
        ours = measured is not bare
        target = report.at_least(speed.median, RATIO_TARGET) if ours else ("", "")
        ratio = report.ratio(speed) if ours else ""
        per_second = f"{rows / measured.median:,.0f}"
        made.add_row(name, report.seconds(measured), per_second, ratio, *target)
    made.add_row("KMS calls per 100,000 rows", f"{calls * 100_000 / rows:.1f}")
    report.show(console, made)


def _peak(url: str, directory: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.rewrapping", str(directory)]
    # A URL may hold a password, which a command line would show to everyone.
    environment = {**os.environ, "KMSENV_BENCHMARK_URL": url}
    done = subprocess.run(  # noqa: S603  own module
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return int(done.stdout)


def main(directory: str) -> None:
    attach_keyrings(Base.metadata, Keyring(_key(Path(directory))))
    engine = create_engine(os.environ["KMSENV_BENCHMARK_URL"])
    done = rewrap(engine, Base.metadata, columns=[Sealed.value], batch_size=PAGE)
    if not done.ok or done.counts.rewritten != done.counts.rows:
        raise RuntimeError(done)
    print(peak_resident())


if __name__ == "__main__":
    main(*sys.argv[1:])
