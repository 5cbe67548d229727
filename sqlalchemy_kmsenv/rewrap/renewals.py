"""Data keys that stand at the target, by what names them: shared by threads, processes and runs."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Insert,
    LargeBinary,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.columns.own_operators import equal, one_of
from sqlalchemy_kmsenv.envelope import FINGERPRINT_BYTES, MATERIAL_HINT_BYTES, InlineReference
from sqlalchemy_kmsenv.keyring import ContextPairs
from sqlalchemy_kmsenv.rewrap.targets import Target

TABLE_NAME = "kmsenv_rewrapped"
_NAMES_A_STATEMENT = 500
_HINT_AT = FINGERPRINT_BYTES
_WRAPPED_AT = FINGERPRINT_BYTES + MATERIAL_HINT_BYTES

_ROWS = Table(
    TABLE_NAME,
    MetaData(),
    Column("name", String(64), primary_key=True),
    Column("place", String(64), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("source", String(64), nullable=False),
    Column("proof", String(64), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """A wrapped data key at the target, and where it comes from."""

    reference: bytes = field(repr=False)
    """Fingerprint, material hint and wrapped data key, one behind the other."""
    source: str = ""
    """Digest of the wrapped data key that ReEncrypt was given; empty where a row had it."""
    proof: str = ""
    """A MAC under the secret of the run that called ReEncrypt: nobody else can say so."""

    def as_reference(self, commitment: bytes) -> InlineReference:
        """The key reference for the header of a value with this commitment."""
        raw = self.reference
        return InlineReference(
            raw[:_HINT_AT], raw[_HINT_AT:_WRAPPED_AT], commitment, raw[_WRAPPED_AT:]
        )


class Renewals:
    """The renewals of one column and target: a table, with the latest in memory.

    Entries are in the job's database, so that every process of every run finds the
    same; or in a file of this process alone, where the role may create no table.
    The first entry of a name stays.
    """

    def __init__(self, engine: Engine, column: str, target: Target, secret: bytes) -> None:
        self._engine = engine
        place = json.dumps([column, target.key_arn, target.fingerprint.hex(), target.hint.hex()])
        self._place = hashlib.sha256(place.encode()).hexdigest()
        self._secret = secret
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, Renewal] = OrderedDict()

    def name(self, pairs: ContextPairs, commitment: bytes, wrapped: bytes = b"") -> str:
        """What names a data key: its context and commitment; with ``wrapped`` one form of it."""
        parts = json.dumps([self._place, pairs, commitment.hex(), wrapped.hex()])
        return hashlib.sha256(parts.encode()).hexdigest()

    def made(self, name: str, renewed: InlineReference, source: InlineReference) -> Renewal:
        """The entry for what ReEncrypt made of ``source``."""
        raw = renewed.fingerprint + renewed.material_hint + renewed.wrapped
        digest = _digest(source)
        return Renewal(raw, digest, self._proof(name, raw, digest))

    def seen(self, reference: InlineReference) -> Renewal:
        """The entry for what a row has; it proves nothing."""
        return Renewal(reference.fingerprint + reference.material_hint + reference.wrapped)

    def is_of(self, renewal: Renewal, name: str, source: InlineReference) -> bool:
        """Whether this run got ``renewal`` from the KMS for exactly this wrapped data key."""
        expected = self._proof(name, renewal.reference, _digest(source))
        return hmac.compare_digest(renewal.proof, expected)

    def find(self, names: Collection[str]) -> dict[str, Renewal]:
        """The entries that there are."""
        with self._lock:
            found = {name: self._latest[name] for name in names if name in self._latest}
        absent = sorted(name for name in names if name not in found)
        if absent:
            with self._engine.connect() as connection:
                read = self._read(connection, absent)
            self._remember(read)
            found.update(read)
        return found

    def offer(self, given: Mapping[str, Renewal]) -> dict[str, Renewal]:
        """Keep entries where their names are new; the entries that stand there now."""
        # In one order, so that two jobs wait for each other at most once.
        rows = [self._row(name, given[name]) for name in sorted(given)]
        with self._engine.begin() as connection:
            connection.execute(_insert_new(connection), rows)
            stand = self._read(connection, sorted(given))
        self._remember(stand)
        return stand

    def replace(self, name: str, renewal: Renewal) -> None:
        """Put an entry in the place of one that turned out to be false."""
        with self._engine.begin() as connection:
            values = self._row(name, renewal)
            same = equal(_ROWS.c.name, name, connection.dialect)
            connection.execute(update(_ROWS).where(same).values(values))
        self._remember({name: renewal})

    def clear(self) -> None:
        """Forget this column and target: the job is complete."""
        with self._lock:
            self._latest.clear()
        with suppress(DBAPIError), self._engine.begin() as connection:
            here = equal(_ROWS.c.place, self._place, connection.dialect)
            connection.execute(delete(_ROWS).where(here))

    def _read(self, connection: Connection, names: list[str]) -> dict[str, Renewal]:
        found = {}
        for start in range(0, len(names), _NAMES_A_STATEMENT):
            some = names[start : start + _NAMES_A_STATEMENT]
            these = one_of(_ROWS.c.name, "names", connection.dialect, some)
            for row in connection.execute(select(_ROWS).where(these)):
                found[row.name] = Renewal(bytes(row.wrapped), row.source, row.proof)
        return found

    def _row(self, name: str, renewal: Renewal) -> dict[str, object]:
        return {
            "name": name,
            "place": self._place,
            "wrapped": renewal.reference,
            "source": renewal.source,
            "proof": renewal.proof,
        }

    def _remember(self, found: Mapping[str, Renewal]) -> None:
        with self._lock:
            for name, renewal in found.items():
                self._latest[name] = renewal
                self._latest.move_to_end(name)
            while len(self._latest) > defaults.REWRAP_CACHE_ENTRIES:
                self._latest.popitem(last=False)

    def _proof(self, name: str, reference: bytes, source: str) -> str:
        message = b"|".join((name.encode(), source.encode(), reference))
        return hmac.new(self._secret, message, "sha256").hexdigest()


def renewals_engine(engine: Engine) -> tuple[Engine, str]:
    """Where entries are kept, and a note where it is not the job's database.

    Otherwise they are in a file of this process, which goes with the engine.
    """
    try:
        _create(engine)
    except DBAPIError as error:
        note = (
            f"the table {TABLE_NAME} cannot be made ({type(error.orig).__name__}): other"
            " processes, and runs after a kill, do not find what this one has wrapped anew, and"
            " wrapped data keys may multiply. Let the owner of the schema make it"
            " (docs/rewrap.md), and the job's role read and write it"
        )
    else:
        return engine, ""
    handle, path = tempfile.mkstemp(prefix="kmsenv-rewrapped-")
    os.close(handle)
    own = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    weakref.finalize(own, Path(path).unlink, missing_ok=True)
    _create(own)
    return own, note


def _create(engine: Engine) -> None:
    try:
        _ROWS.create(engine, checkfirst=True)
    except DBAPIError:
        # Another job may have made it in between.
        _ROWS.create(engine, checkfirst=True)


def _insert_new(connection: Connection) -> Insert:
    """An INSERT that leaves alone what is there."""
    name = connection.dialect.name
    if name == "postgresql":
        return postgresql.insert(_ROWS).on_conflict_do_nothing()
    return insert(_ROWS).prefix_with("OR IGNORE" if name == "sqlite" else "IGNORE")


def _digest(reference: InlineReference) -> str:
    return hashlib.sha256(reference.fingerprint + reference.wrapped).hexdigest()
