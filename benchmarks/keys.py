"""A flush of rows whose keys the server generates: statements, KMS calls and time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import Connection, Engine, LargeBinary, String, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks import report
from benchmarks.subject import text as random_text
from benchmarks.timing import Samples, interleave, settle
from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.kms import CountingKms

ROWS = 1000
VALUE_CHARACTERS = 32
_TIMES_A_ROUND = 4
"""A flush takes little time beside the parts that fill whole tables."""


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "kmsenv_benchmark_generated_plain"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class Sealed(Base):
    __tablename__ = "kmsenv_benchmark_generated_sealed"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Encrypted(String))


MODELS: dict[str, type[Plain | Sealed]] = {"plain": Plain, "encrypted": Sealed}


@dataclass
class Sent:
    """What went to the driver in one flush."""

    executions: Counter[str] = field(default_factory=Counter)
    """By verb; the sets of parameters and the seconds likewise."""
    sets: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    commands: int | None = None
    """What arrived at the server, where it counts."""

    def described(self) -> str:
        """Executions by verb, and how many sets of parameters they had where they had more."""
        return ", ".join(
            f"{number:,} {verb}"
            + (f" of {sets:,} sets" if (sets := self.sets[verb]) > number else "")
            for verb, number in self.executions.items()
        )


def run(console: Console, rounds: int, url: str, directory: Path) -> None:
    """Measure on the database at ``url``; its tables are dropped again."""
    path = directory / "generated.key"
    kms = CountingKms(LocalKms(path) if path.exists() else LocalKms.create(path))
    attach_keyrings(Base.metadata, Keyring(kms))
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    calls: dict[str, int] = {}
    found: dict[str, list[Sent]] = {name: [] for name in MODELS}
    try:
        for name in MODELS:
            _flush(engine, name, [])
            calls[name] = kms.total
            kms.reset()
        settle()
        contenders = {name: partial(_flush, engine, name, found[name]) for name in MODELS}
        times = interleave(rounds * _TIMES_A_ROUND, contenders)
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()
    _show(console, engine.dialect.name, times, found, calls)


def _flush(engine: Engine, name: str, found: list[Sent]) -> float:
    """Seconds of one flush; the rows are rolled back."""
    model, values = MODELS[name], [random_text(VALUE_CHARACTERS) for _ in range(ROWS)]
    given: list[Any] = values if name == "encrypted" else [value.encode() for value in values]
    with Session(engine) as session:
        connection = session.connection()
        session.add_all([model(value=value) for value in given])
        before = _commands(connection)
        with _watched(connection) as sent:
            start = time.perf_counter()
            session.flush()
            seconds = time.perf_counter() - start
        after = _commands(connection)
        if before is not None and after is not None:
            sent.commands = after - before - 1  # The question itself.
        session.rollback()
    found.append(sent)
    return seconds


@contextmanager
def _watched(connection: Connection) -> Iterator[Sent]:
    sent, since = Sent(), 0.0

    def before(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        nonlocal since
        verb = statement.split(maxsplit=1)[0]
        sent.executions[verb] += 1
        # All rows in one statement is one set, although its driver says "many".
        sent.sets[verb] += len(parameters) if many and isinstance(parameters, list) else 1
        since = time.perf_counter()

    def after(_: Any, __: Any, statement: str, *___: Any) -> None:
        verb = statement.split(maxsplit=1)[0]
        sent.seconds[verb] = sent.seconds.get(verb, 0.0) + time.perf_counter() - since

    event.listen(connection, "before_cursor_execute", before)
    event.listen(connection, "after_cursor_execute", after)
    try:
        yield sent
    finally:
        event.remove(connection, "before_cursor_execute", before)
        event.remove(connection, "after_cursor_execute", after)


def _commands(connection: Connection) -> int | None:
    if connection.dialect.name not in ("mysql", "mariadb"):
        return None
    row = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'").one()
    return int(row[1])


def _show(
    console: Console,
    database: str,
    times: dict[str, Samples],
    found: dict[str, list[Sent]],
    calls: dict[str, int],
) -> None:
    made = report.table(
        f"A flush of {ROWS:,} rows whose keys the server generates, {database}",
        "", *MODELS, "encrypted / plain",
    )  # fmt: skip
    ours = times["encrypted"].over(times["plain"])
    made.add_row("flush", *map(report.seconds, times.values()), report.ratio(ours))
    for verb in found["encrypted"][-1].executions:
        shown = {name: _in_driver(sents, verb) for name, sents in found.items()}
        made.add_row(
            f"of it {verb} in the driver",
            *(report.seconds(samples) if samples else "" for samples in shown.values()),
            "",
        )
    made.add_row("executions", *(sents[-1].described() for sents in found.values()), "")
    if found["plain"][-1].commands is not None:
        commands = (f"{sents[-1].commands:,}" for sents in found.values())
        made.add_row("commands that the server counted", *commands, "")
    made.add_row("KMS calls of the first flush", *map(str, calls.values()), "")
    report.show(console, made)


def _in_driver(sents: list[Sent], verb: str) -> Samples | None:
    values = tuple(sent.seconds[verb] for sent in sents if verb in sent.seconds)
    return Samples(values) if values else None
