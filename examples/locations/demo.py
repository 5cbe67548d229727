"""The steps of the demonstration, each with the KMS calls that it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import (
    Engine,
    LargeBinary,
    Uuid,
    column,
    func,
    inspect,
    select,
    table,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session

from examples.locations import schema
from examples.locations.aftermath import Aftermath
from examples.locations.models import APP, Base, Device, Ping
from examples.locations.tracks import Point, Track, store_track
from sqlalchemy_kmsenv import Keyring, LocalKms, WrongCellError, attach_keyrings
from sqlalchemy_kmsenv.kms import CountingKms

_SHOWN_BYTES = 48
_ASKED = "asked"
_KINDS = {
    "generate_data_key": "generate",
    "unwrap": "unwrap",
    "rewrap": "re-wrap",
    _ASKED: "ask",
}
"""Kinds of KMS calls. Asking is DescribeKey, and what a job asks for with DryRun beforehand."""
_READ_AT_ONCE = 1000
# The table as a program without the library knows it: its UPDATE is plain SQL.
_PLAIN = table("locations_pings", column("id", Uuid()), column("position", LargeBinary()))


@dataclass
class Demo:
    """One run on one database and one KMS key."""

    console: Console
    engine: Engine
    kms: CountingKms
    costs: list[tuple[str, Counter[str]]] = field(default_factory=list)
    stored: dict[str, list[UUID]] = field(default_factory=dict)

    def run(self, tracks: Sequence[Track]) -> None:
        """Every step."""
        keyring = Keyring(self.kms, context=APP)
        attach_keyrings(Base.metadata, keyring)
        with self._step("Schema"):
            self._create_schema()
        with self._step("Ingest"):
            self._ingest(tracks)
        with self._step("Look inside"):
            self._look_inside()
        with self._step("Move a value"):
            self._move_a_value()
        with self._step("Rotate the key"):
            self._rotate(keyring)
        aftermath = Aftermath(self.console, self.engine)
        with self._step("Survey"):
            aftermath.survey()
        with self._step("Re-wrap"):
            aftermath.rewrap()
        with self._step("Survey again"):
            aftermath.survey()
        with self._step("Verify"):
            aftermath.verify()
        self._show_costs()

    def _create_schema(self) -> None:
        was_there = inspect(self.engine).has_table(Ping.__tablename__)
        schema.upgrade(self.engine)
        if not was_there:
            self._say(f"Created by the migrations in {_shown_url(self.engine)}.")
            return
        with Session(self.engine) as session:
            devices = session.scalar(select(func.count()).select_from(Device))
            pings = session.scalar(select(func.count()).select_from(Ping))
        self._say(
            f"There already in {_shown_url(self.engine)}: {devices:,} devices and {pings:,} pings."
            " They stay; this run adds its own."
        )

    def _ingest(self, tracks: Sequence[Track]) -> None:
        grid = Table("device", _right("points"), _right("KMS calls"))
        for track in tracks:
            before = self.kms.total
            ids = store_track(self.engine, track)
            self.stored.setdefault(track.device_id, []).extend(ids)
            grid.add_row(Text(track.device_id), f"{len(ids):,}", str(self.kms.total - before))
        self.console.print(grid)

    def _look_inside(self) -> None:
        ping_id = self._first_ids()[0]
        grid = Table("seen by", "position", show_lines=True)
        stored = self._stored_bytes(ping_id)
        more = f" ... ({len(stored)} bytes)" if len(stored) > _SHOWN_BYTES else ""
        shown = Text(stored[:_SHOWN_BYTES].hex(" ") + more, overflow="fold")
        grid.add_row("the database", shown)
        grid.add_row("the application", Text(str(self._position(ping_id)), overflow="fold"))
        self.console.print(grid)

    def _move_a_value(self) -> None:
        source, target = self._two_ids()
        own, foreign = self._stored_bytes(target), self._stored_bytes(source)
        self._say("Plain SQL copies the position of one ping over that of another:")
        self._say("UPDATE locations_pings SET position = ... WHERE id = ...", style="cyan")
        self._write_plain(target, foreign)
        try:
            self._position(target)
        except WrongCellError as error:
            self._say(f"Refused, WrongCellError: {error}", style="red")
        else:
            raise AssertionError("a moved value was opened")
        finally:
            self._write_plain(target, own)
        self._say(f"Put back, it reads again: {self._position(target)}", style="green")

    def _rotate(self, keyring: Keyring) -> None:
        kms = self.kms.kms
        if not isinstance(kms, LocalKms):
            self._say("Skipped: rotating a key in AWS is up to AWS (or another service to itself).")
            return
        material = kms.rotate()
        # The next values then come under the new material at once, not in some minutes.
        keyring.forget()
        self._say(f"New key material: {material[:16]}...")
        device_id = next(iter(self.stored))
        point = Point(datetime.now(UTC).replace(microsecond=0), 48.2, 16.37, None)
        [added] = store_track(self.engine, Track(device_id, (point,)))
        self._say(f"A ping stored since then: {self._position(added)}")
        old = sum(self._count_readable(ids) for ids in self.stored.values())
        self._say(f"All {old:,} pings of before the rotation still read.", style="green")
        self.stored[device_id].append(added)

    def _show_costs(self) -> None:
        self.console.print(Rule("KMS calls"))
        grid = Table("step", *map(_right, _KINDS.values()), box=SIMPLE_HEAD, padding=0)
        for name, spent in self.costs:
            grid.add_row(name, *(str(spent[kind]) for kind in _KINDS))
        grid.add_section()
        every = sum((spent for _, spent in self.costs), Counter[str]())
        grid.add_row("all", *(str(every[kind]) for kind in _KINDS))
        self.console.print(grid)
        pings = sum(map(len, self.stored.values()))
        total = sum(every.values())
        self._say(f"{total} KMS calls for {pings:,} encrypted positions.")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.console.print(Rule(name))
        before = self._calls()
        yield
        self.costs.append((name, self._calls() - before))

    def _calls(self) -> Counter[str]:
        return self.kms.calls + Counter({_ASKED: self.kms.inquiries.total()})

    def _say(self, words: str, *, style: str = "") -> None:
        self.console.print(Text(words, style=style, overflow="fold"))

    def _first_ids(self) -> list[UUID]:
        return [ids[0] for ids in self.stored.values()]

    def _two_ids(self) -> tuple[UUID, UUID]:
        # Of one device where possible: there not even the data keys differ.
        for ids in self.stored.values():
            if len(ids) > 1:
                return ids[0], ids[1]
        first = self._first_ids()
        if len(first) > 1:
            return first[0], first[1]
        # A single point was given: store it once more.
        device_id, ids = next(iter(self.stored.items()))
        point = Point(datetime.now(UTC).replace(microsecond=0), 0.0, 0.0, None)
        ids += store_track(self.engine, Track(device_id, (point,)))
        return ids[0], ids[1]

    def _position(self, ping_id: UUID) -> object:
        with Session(self.engine) as session:
            return session.scalars(select(Ping.position).where(Ping.id == ping_id)).one()

    def _stored_bytes(self, ping_id: UUID) -> bytes:
        stored = type_coerce(Ping.position, LargeBinary)
        with Session(self.engine) as session:
            return bytes(session.scalars(select(stored).where(Ping.id == ping_id)).one())

    def _write_plain(self, ping_id: UUID, stored: bytes) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(_PLAIN).where(_PLAIN.c.id == ping_id).values(position=stored))

    def _count_readable(self, ids: Sequence[UUID]) -> int:
        number = 0
        with Session(self.engine) as session:
            for start in range(0, len(ids), _READ_AT_ONCE):
                wanted = Ping.id.in_(ids[start : start + _READ_AT_ONCE])
                number += len(session.scalars(select(Ping.position).where(wanted)).all())
        return number


def _right(header: str) -> Column:
    return Column(header, justify="right")


def _shown_url(engine: Engine) -> str:
    return engine.url.render_as_string()
