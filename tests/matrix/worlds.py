"""What a shape of statement works with, and what it notes of what came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, String, and_, bindparam
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import CursorResult, Result
from sqlalchemy.orm import Session

from tests.matrix.models import Model


@dataclass
class World:
    """A model, a session on one database, and how its statement is varied."""

    model: Model
    session: Session
    returning: str
    """``no``, ``entity``, ``columns``, ``key``, ``defaults``."""
    many: bool
    seen: list[Any] = field(default_factory=list)

    @property
    def new(self) -> Sequence[int]:
        """Numbers of rows that are not there yet."""
        return (3, 4) if self.many else (3,)

    @property
    def old(self) -> Sequence[int]:
        """Numbers of rows that are there, of which there are two."""
        return (1, 2) if self.many else (1,)

    @property
    def core(self) -> Any:
        """The connection of the session."""
        return self.session.connection()

    @property
    def dialect(self) -> str:
        """Name of the database."""
        return self.session.get_bind().dialect.name

    def rows(self) -> list[dict[str, Any]]:
        """New rows for Core."""
        return [self.model.table_row(n) for n in self.new]

    def objects(self) -> list[dict[str, Any]]:
        """New rows for the ORM."""
        return [self.model.row(n) for n in self.new]

    def load(self, n: int) -> Any:
        """The object of a row."""
        return self.session.get_one(self.model.entity, tuple(self.model.key_of(n).values()))

    def is_row(self, n: int, target: Any = None) -> ColumnElement[bool]:
        """The condition that names a row, for the table or an entity."""
        source = self.model.table.c if target is None else target
        parts = self.model.key_of(n)
        return and_(*(_of(source, name) == value for name, value in parts.items()))

    def is_bound(self) -> ColumnElement[bool]:
        """The condition that names the row of each parameter set."""
        columns = self.model.table.c
        return and_(*(columns[name] == bindparam("k_" + name) for name in self.model.key))

    def bound(self, n: int) -> dict[str, Any]:
        """The parameters of ``is_bound`` for a row."""
        return {"k_" + name: value for name, value in self.model.key_of(n).items()}

    def secrets(self, n: int, *, core: bool) -> dict[str, Any]:
        """Values that no row has, for each encrypted column."""
        model = self.model
        found = {}
        for name in model.encrypted:
            column = model.column(name)
            if not core:
                found[name] = model.secret(n, name)
            elif column is not None:
                found[column.key] = model.secret(n, name)
        return found

    def one_parameter(self) -> dict[str, Any]:
        """What a new row sets, with one parameter for the name and every encrypted column."""
        value: Any = bindparam("v", type_=String())
        row = self.model.table_row(self.new[0])
        named: dict[str, Any] = {key: bindparam(f"b_{key}") for key in row}
        return {**named, **dict.fromkeys((*self.model.table_encrypted, "name"), value)}

    def new_rows_of_one_parameter(self, *numbers: int) -> list[dict[str, Any]]:
        """The parameters of that statement for each row."""
        ours = {*self.model.table_encrypted, "name"}
        return [
            {"v": f"one {n}", **{f"b_{k}": v for k, v in row.items() if k not in ours}}
            for n in numbers or self.new
            for row in [self.model.table_row(n)]
        ]

    def upsert(self) -> Any:
        """The INSERT of the database's own dialect."""
        own: Any = {"sqlite": sqlite, "postgresql": postgresql}.get(self.dialect, mysql)
        return own.insert(self.model.table)

    def on_conflict(self, statement: Any, make: Any) -> Any:
        """Update the row that is there; ``make`` is given the columns of the new one."""
        if hasattr(statement, "on_duplicate_key_update"):
            return statement.on_duplicate_key_update(**make(statement.inserted))
        return statement.on_conflict_do_update(
            index_elements=[self.model.table.c[name].name for name in self.model.key],
            set_=make(statement.excluded),
        )

    # --- what comes back ------------------------------------------------------------------

    def returned(self, statement: Any, *, core: bool = True) -> Any:
        """The statement, with what this world wants of it."""
        model = self.model
        source = model.table.c if core else model.entity
        first = model.table_encrypted[:1] if core else model.encrypted[:1]
        if self.returning == "entity":
            return statement.returning(model.table if core else model.entity)
        if self.returning == "columns":
            names = ("name", *first, *model.key)
            return statement.returning(*(_of(source, name) for name in names))
        if self.returning == "key":
            return statement.returning(*(_of(source, name) for name in model.key))
        if self.returning == "defaults":
            return statement.return_defaults()
        return statement

    def run(self, statement: Any, rows: Any = None, *, core: bool = True) -> None:
        """Execute a statement as this world wants it, and note everything that it gives."""
        target: Any = self.core if core else self.session
        result = target.execute(self.returned(statement, core=core), rows)
        self.note(result)

    def note(self, result: Result[Any]) -> None:
        """Rows and their order, or what is told about a statement that gives none."""
        if not isinstance(result, CursorResult) or result.returns_rows:
            self.seen.append([tuple(plain(each) for each in row) for row in result])
            return
        # Some drivers forget with the cursor how many rows an INSERT made, and say -1.
        forgets = self.dialect == "postgresql" and result.context.isinsert
        told: list[Any] = [None if forgets and not self.many else result.rowcount]
        for name in ("inserted_primary_key_rows", "returned_defaults_rows"):
            try:
                rows = getattr(result, name)
            except Exception as error:  # noqa: BLE001 - what is raised is compared too
                told.append(type(error).__name__)
            else:
                told.append(rows and [row and tuple(row) for row in rows])
        self.seen.append(told)

    def note_objects(self, objects: Sequence[Any]) -> None:
        """The attributes that are loaded, and whether a flush has more to write."""
        for each in objects:
            self.seen.append((plain(each), self.session.is_modified(each)))


def plain(value: Any) -> Any:
    """An object as its loaded attributes; anything else as it is."""
    state = getattr(value, "_sa_instance_state", None)
    if state is None:
        return value
    return {name: each for name, each in sorted(vars(value).items()) if each is not state}


def _of(source: Any, name: str) -> Any:
    return source[name] if hasattr(source, "keys") else getattr(source, name)
