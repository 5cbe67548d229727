"""One cell of the matrix: a model, a shape of statement, a database; and whether it is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Engine, LargeBinary, event, inspect, select, text, type_coerce
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    InvalidValueError,
    Keyring,
    UnboundValueError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.errors import KmsEnvError
from tests.matrix.axes import Design
from tests.matrix.cells import Cell
from tests.matrix.models import SCHEMA, TRANSLATED, Model, build
from tests.matrix.registry import SHAPES, Shape
from tests.matrix.worlds import World, plain

_WRITES = re.compile(r"\s*(WITH.*)?\b(INSERT|UPDATE|DELETE)\b", re.I | re.S)

REFUSALS = (ConfigurationError, InvalidValueError, UnboundValueError)
"""Errors of statements; any other would say that the stored value is a wrong one, and none is."""

Reader = Callable[[Design], Any]
"""What another process reads of a model's tables, or an exception."""


@dataclass(frozen=True)
class Outcome:
    """What came of a cell."""

    verdict: str
    """``right``, ``refused``, ``absent`` (plain columns fail as well) or ``fault``."""
    error: str = ""
    detail: str = ""


@dataclass(frozen=True)
class _Failed:
    """An exception."""

    error: str
    message: str


class Tables:
    """The tables of one design, encrypted and plain, made once for all of its cells."""

    def __init__(self, engine: Engine, design: Design, keyring: Keyring, prefix: str) -> None:
        self.engine = translated(engine)
        self.design = design
        self.twin = build(design, encrypted=False, prefix=prefix)
        self.model = build(design, encrypted=True, prefix=prefix)
        attach_keyrings(self.model.metadata, keyring)
        self._before: Any = None

    def __enter__(self) -> Self:
        for model in (self.twin, self.model):
            model.metadata.drop_all(self.engine)
            model.metadata.create_all(self.engine)
        return self

    def __exit__(self, *_: object) -> None:
        # A statement that failed half way may have left a cursor, and SQLite a lock, behind.
        self.engine.dispose()
        for model in (self.twin, self.model):
            model.metadata.drop_all(self.engine)

    def run(self, cell: Cell, elsewhere: Reader) -> Outcome:
        """Run a cell with plain columns, with encrypted ones, and compare."""
        shape = SHAPES[cell.shape]
        expected: Any
        try:
            self._seed(self.twin)
            expected = self._attempt(self.twin, shape, cell)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no such statement
            # Without its traceback, whose frames would keep cursors open.
            expected = _Failed(type(error).__name__, str(error))
        try:
            self._seed(self.model)
            # The same rows each time: they are read once.
            before = self._before = self._before or contents(self.engine, self.model)
        except REFUSALS as error:
            return Outcome("refused", type(error).__name__, f"to begin with: {error}")
        except SQLAlchemyError:
            if isinstance(expected, _Failed):
                return Outcome("absent", expected.error, expected.message)
            raise
        sent: list[str] = []
        try:
            with writes_of(self.engine, sent):
                found = self._attempt(self.model, shape, cell)
        except REFUSALS as error:
            return self._refused(error, before, sent, expected)
        except Exception as error:  # noqa: BLE001 - any other error is a fault
            found = _Failed(type(error).__name__, str(error))
        return _compared(expected, found) or self._read_again(expected[1], elsewhere)

    def _read_again(self, expected: Any, elsewhere: Reader) -> Outcome:
        read = elsewhere(self.design)
        if read != expected:
            return Outcome("fault", "new process", difference(expected, read))
        return Outcome("right")

    def _refused(self, error: KmsEnvError, before: Any, sent: list[str], expected: Any) -> Outcome:
        if sent:
            return Outcome("fault", "written", f"{error!r} after {sent[0]}")
        if (after := contents(self.engine, self.model)) != before:
            return Outcome("fault", "changed", f"{error!r}: {difference(before, after)}")
        if isinstance(expected, _Failed):
            return Outcome("absent", expected.error, expected.message)
        return Outcome("refused", type(error).__name__, str(error))

    def _attempt(self, model: Model, shape: Shape, cell: Cell) -> Any:
        """What a shape notes, and what the tables hold afterwards."""
        with Session(self.engine, expire_on_commit=False) as session:
            world = World(model, session, cell.returning, cell.many == "many")
            shape.run(world)
            session.commit()
            seen = [*world.seen, *(plain(each) for each in _sorted(session))]
        return seen, contents(self.engine, model)

    def _seed(self, model: Model) -> None:
        with Session(self.engine) as session:
            for table in reversed(model.metadata.sorted_tables):
                session.execute(table.delete())
            self._restart_sequences(session.connection(), model)
            model.restart(1)
            session.add_all([model.entity(**model.row(n)) for n in (1, 2)])
            session.commit()

    def _restart_sequences(self, connection: Any, model: Model) -> None:
        if self.design.key != "server" or connection.dialect.name == "sqlite":
            return
        for table in model.metadata.sorted_tables:
            if table.autoincrement_column is None:
                continue
            name = f"{SCHEMA}.{table.name}" if table.schema else table.name
            if connection.dialect.name == "postgresql":
                column = table.autoincrement_column.name
                connection.execute(text(f"ALTER SEQUENCE {name}_{column}_seq RESTART"))
            else:
                connection.execute(text(f"ALTER TABLE {name} AUTO_INCREMENT = 1"))


def translated(engine: Engine) -> Engine:
    """The engine that knows where the schema of translated models is."""
    return engine.execution_options(schema_translate_map={TRANSLATED: SCHEMA})


def contents(engine: Engine, model: Model) -> Any:
    """Every row as objects and as Core's rows; that encrypted columns hold envelopes, or NULL."""
    found: list[Any] = []
    with Session(engine) as session:
        for entity in dict.fromkeys((model.parent, model.entity)):
            objects = session.scalars(select(entity)).all()
            columns = [each.key for each in inspect(entity).column_attrs]
            rows = [{name: getattr(each, name) for name in columns} for each in objects]
            found.append(sorted(rows, key=repr))
        found.append(sorted(map(repr, session.execute(select(model.table)).all())))
        for table in model.metadata.sorted_tables:
            for column in table.c:
                if isinstance(column.type, Encrypted):
                    _check_envelopes(session, column)
    return found


def _check_envelopes(session: Session, column: Any) -> None:
    """Nothing but envelopes and NULL is stored."""
    raw = type_coerce(column, LargeBinary)
    for stored in session.scalars(select(raw).where(column.is_not(None))):
        if bytes(stored)[:2] != b"\xe5\x01":
            raise AssertionError(f"{column} holds no envelope")


@contextmanager
def writes_of(engine: Engine, sent: list[str]) -> Iterator[None]:
    """Note what was sent that writes."""

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if _WRITES.match(statement):
            sent.append(statement)

    event.listen(engine, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", note)


def _sorted(session: Session) -> list[Any]:
    return sorted(session, key=lambda each: repr(plain(each)))


def _compared(expected: Any, found: Any) -> Outcome | None:
    if isinstance(expected, _Failed):
        return Outcome("absent", expected.error, expected.message)
    if isinstance(found, _Failed):
        return Outcome("fault", found.error, found.message)
    if found != expected:
        return Outcome("fault", "differs", difference(expected, found))
    return None


def difference(expected: Any, found: Any) -> str:
    """Where two results first differ."""
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        unlike = [pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]]
        if len(expected) == len(found):
            return difference(*unlike[0])
    if isinstance(expected, dict) and isinstance(found, dict):
        return "; ".join(
            f"{key}: {expected.get(key, _MISSING)!r} != {found.get(key, _MISSING)!r}"
            for key in sorted({*expected, *found})
            if expected.get(key, _MISSING) != found.get(key, _MISSING)
        )
    return f"{expected!r} != {found!r}"


_MISSING = "(missing)"
