"""Whole tables through SQLAlchemy: INSERT and SELECT, ORM and Core, and peak memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import Engine, Table, create_engine, insert, select
from sqlalchemy.orm import Session

from benchmarks import memory, report
from benchmarks.models import MODELS, Base
from benchmarks.subject import keyring, text
from benchmarks.timing import Samples, interleave, settle, timed
from sqlalchemy_kmsenv import attach_keyrings

VALUE_CHARACTERS = 32
MEMORY_TARGET = 1.2
_TARGETS = {"ORM SELECT": 1.3, "Core SELECT": 4.5, "ORM INSERT": 1.25}
_CORE_INSERT_TARGETS = {"sqlite": 2.2, "postgresql": 1.35}
_MIB = 1 << 20


def run(console: Console, rounds: int, rows: int, url: str, directory: Path) -> None:
    """Measure on the database at ``url``; its tables are dropped again."""
    key_file = directory / "rows.key"
    attach_keyrings(Base.metadata, keyring(key_file))
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    try:
        times = _times(engine, rounds, rows)
        peaks = memory.peaks(url, key_file, list(MODELS))
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()
    _show(console, engine.dialect.name, rows, times, peaks)


def _times(engine: Engine, rounds: int, rows: int) -> dict[str, dict[str, Samples]]:
    given = {name: _parameters(name, rows) for name in MODELS}
    # INSERT before SELECT of the same interface: every SELECT finds a full table.
    operations: dict[str, Callable[[Engine, str, list[dict[str, Any]]], float]] = {
        "Core INSERT": _core_insert,
        "Core SELECT": _core_select,
        "ORM INSERT": _orm_insert,
        "ORM SELECT": _orm_select,
    }
    for name in MODELS:
        for operation in operations.values():
            operation(engine, name, given[name][:100])
    settle()
    return {
        operation: interleave(
            rounds, {name: partial(function, engine, name, given[name]) for name in MODELS}
        )
        for operation, function in operations.items()
    }


def _parameters(name: str, rows: int) -> list[dict[str, Any]]:
    values = [text(VALUE_CHARACTERS) for _ in range(rows)]
    given: list[Any] = [*values] if name == "encrypted" else [value.encode() for value in values]
    return [{"id": number, "value": value} for number, value in enumerate(given, 1)]


def _table(name: str) -> Table:
    return Base.metadata.tables[MODELS[name].__tablename__]


def _emptied(engine: Engine, name: str) -> None:
    # Made anew, since rows that DELETE leaves behind would slow down what follows.
    table = _table(name)
    table.drop(engine)
    table.create(engine)


def _core_insert(engine: Engine, name: str, given: list[dict[str, Any]]) -> float:
    _emptied(engine, name)

    def work() -> None:
        with engine.begin() as connection:
            connection.execute(insert(_table(name)), given)

    return timed(work)


def _core_select(engine: Engine, name: str, _: list[dict[str, Any]]) -> float:
    with engine.connect() as connection:
        return timed(lambda: connection.execute(select(_table(name))).all())


def _orm_insert(engine: Engine, name: str, given: list[dict[str, Any]]) -> float:
    _emptied(engine, name)
    model = MODELS[name]

    def work() -> None:
        with Session(engine) as session:
            session.add_all([model(**values) for values in given])
            session.commit()

    return timed(work)


def _orm_select(engine: Engine, name: str, _: list[dict[str, Any]]) -> float:
    with Session(engine) as session:
        return timed(lambda: session.scalars(select(MODELS[name])).all())


def _show(
    console: Console,
    database: str,
    rows: int,
    times: dict[str, dict[str, Samples]],
    peaks: dict[str, dict[str, int]],
) -> None:
    made = report.table(
        f"{rows:,} rows of {VALUE_CHARACTERS} characters, {database}",
        "", *MODELS, "no-op / plain", "encrypted / plain", "target", "reached",
    )  # fmt: skip
    for operation, measured in times.items():
        ours = measured["encrypted"].over(measured["plain"])
        target = _TARGETS.get(operation, _CORE_INSERT_TARGETS.get(database))
        made.add_row(
            operation,
            *(report.seconds(measured[name]) for name in MODELS),
            report.ratio(measured["no-op decorator"].over(measured["plain"])),
            report.ratio(ours),
            *report.at_most(ours.median, target),
        )
    for measure, found in peaks.items():
        ours_to_plain = found["encrypted"] / found["plain"]
        made.add_row(
            f"ORM SELECT, peak {measure}",
            *(f"{found[name] / _MIB:.1f} MiB" for name in MODELS),
            f"{found['no-op decorator'] / found['plain']:.2f}",
            f"{ours_to_plain:.2f}",
            *report.at_most(ours_to_plain, MEMORY_TARGET),
        )
    report.show(console, made)
