"""One model twice, with and without encryption, and what an application sees of each."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from sqlalchemy import JSON, Engine, Integer, String, Uuid, event, func, inspect, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings

KEYS = ("generated", "default")


class Seen:
    """What the default functions of one model were shown, in the order of the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._numbers = itertools.count(1)

    def counted(self) -> str:
        """A function without a context."""
        number = next(self._numbers)
        self.calls.append(("counted", {"number": number}))
        return f"call {number}"

    def key(self) -> uuid.UUID:
        """A key that the application makes."""
        return uuid.UUID(int=next(self._numbers))

    def looking(self, name: str, *read: str) -> Callable[[Any], str]:
        """A function that looks at other values of its row."""

        def default(context: Any) -> str:
            row = context.get_current_parameters()
            shown = {key: row.get(key) for key in read}
            self.calls.append((name, shown))
            return f"{name} of {'/'.join(map(str, shown.values()))}"

        return default


def build(engine: Engine, keyring: Keyring, *, encrypted: bool, key: str) -> SimpleNamespace:
    """A model with every kind of default, its values sealed or plain."""
    seen = Seen()

    def kept(inner: Any, **options: Any) -> Any:
        return Encrypted(inner, **options) if encrypted else inner

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = f"kmsenv_diff_{'sealed' if encrypted else 'plain'}"
        if key == "generated":
            id = mapped_column(Integer, primary_key=True)
        else:
            id = mapped_column(Uuid, primary_key=True, default=seen.key)
        early = mapped_column(String(99), default=seen.looking("early", "name", "text", "scalar"))
        text = mapped_column(kept(String(99)))
        scalar = mapped_column(kept(String(99)), default="scalar")
        name = mapped_column(String(20), unique=True)
        tenant = mapped_column(String(20), default="t1", nullable=False)
        scoped = mapped_column(kept(String(99), scope=["tenant"]), default=seen.counted)
        looking = mapped_column(
            kept(String(199)),
            default=seen.looking("looking", "early", "text", "scoped", "tenant"),
            onupdate=seen.looking("looked", "name", "text", "late"),
        )
        document = mapped_column(kept(JSON), default=dict)
        touched = mapped_column(kept(String(99)), onupdate="touched")
        late = mapped_column(
            String(199),
            default=seen.looking("late", "text", "looking", "scoped"),
            onupdate=seen.looking("later", "text", "looking", "touched"),
        )
        computed = mapped_column(String(20), default=func.lower("SQL"))
        served = mapped_column(String(20), server_default="served")

    attach_keyrings(Base.metadata, keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    return SimpleNamespace(Note=Note, table=Note.__table__, seen=seen, Base=Base, key=key)


@contextmanager
def both(engine: Engine, keyring: Keyring, key: str) -> Iterator[tuple[Any, Any]]:
    """The plain model and the encrypted one, with their tables."""
    models = [build(engine, keyring, encrypted=each, key=key) for each in (False, True)]
    try:
        yield models[0], models[1]
    finally:
        for each in models:
            each.Base.metadata.drop_all(engine)


def observe(engine: Engine, model: Any, run: Callable[[Session, Any], Any]) -> dict[str, Any]:
    """Everything that shows of a run: its answer, what objects hold, calls, rows."""
    refreshed: list[Any] = []

    def note(target: Any, _: Any, names: Any) -> None:
        refreshed.append(sorted(names or ()))

    event.listen(model.Note, "refresh_flush", note)
    with Session(engine, expire_on_commit=False) as session:
        try:
            answer = run(session, model)
            session.commit()
        except Exception as error:  # noqa: BLE001  either model may refuse; the two are compared
            session.rollback()
            answer = f"{type(error).__name__}: {error}"
        calls = list(model.seen.calls)
    event.remove(model.Note, "refresh_flush", note)
    with Session(engine) as session:
        columns = [each for each in model.table.c if model.key == "generated" or each.key != "id"]
        query = select(*columns).order_by(model.table.c.id)
        rows = sorted(map(str, (dict(row._mapping) for row in session.execute(query))))
    return {"answer": answer, "calls": calls, "refreshed": refreshed, "rows": rows}


def state(target: Any) -> dict[str, Any]:
    """What an object holds, without loading anything."""
    held = {name: value for name, value in vars(target).items() if name != "_sa_instance_state"}
    return {**held, "unloaded": sorted(inspect(target).unloaded)}


def told(result: CursorResult[Any]) -> dict[str, Any]:
    """What a result says of the statement."""
    parameters = result.context.compiled_parameters
    return {
        "rowcount": result.rowcount,
        "keys": result.inserted_primary_key_rows if result.context.isinsert else None,
        "prefetched": sorted(column.key for column in result.prefetch_cols() or ()),
        "postfetched": sorted(column.key for column in result.postfetch_cols() or ()),
        "parameters": [
            # What guards an UPDATE is the library's own: the row is still the one it sealed for.
            {name: value for name, value in row.items() if name not in ("id", "kmsenv_was_id")}
            for row in parameters
        ],
    }
