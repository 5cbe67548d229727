"""Tables with stored envelopes, and what can be seen of their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    insert,
    select,
    type_coerce,
    update,
)

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.kms import CountingKms


@dataclass
class Notes:
    """A table with one column that shares data keys and one whose tenants have their own."""

    engine: Engine
    metadata: MetaData
    table: Table
    key: LocalKms
    kms: CountingKms

    def fill(self, rows: int, start: int = 0) -> None:
        """Rows of three tenants; every tenth text is NULL."""
        given = [
            {"id": n, "tenant": n % 3, "text": text_of(n), "secret": f"secret {n}"}
            for n in range(start, start + rows)
        ]
        with self.engine.begin() as connection:
            connection.execute(insert(self.table), given)

    def stored(self, name: str = "text") -> dict[int, Any]:
        """The stored bytes by key."""
        query = select(self.table.c.id, type_coerce(self.table.c[name], LargeBinary))
        with self.engine.connect() as connection:
            return {key: raw and bytes(raw) for key, raw in connection.execute(query)}

    def overwrite(self, key: int, raw: bytes, name: str = "text") -> None:
        """Write any bytes into a cell behind the library's back."""
        bare = Table(
            self.table.name,
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column(name, LargeBinary),
        )
        with self.engine.begin() as connection:
            connection.execute(update(bare).where(bare.c.id == key).values({name: raw}))

    def texts(self) -> dict[int, str]:
        """The values by key, opened."""
        with self.engine.connect() as connection:
            return dict(connection.execute(select(self.table.c.id, self.table.c.text)).all())


def text_of(row: int) -> str | None:
    """What ``fill`` writes."""
    return None if row % 10 == 9 else f"text {row}"


def make_notes(engine: Engine, metadata: MetaData, key: LocalKms) -> Notes:
    """An empty ``Notes`` table on a counted key."""
    table = Table(
        "kmsenv_rewrap_notes",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer, nullable=False),
        Column("text", Encrypted(String)),
        Column("secret", Encrypted(String, scope=["tenant"])),
    )
    kms = CountingKms(key)
    attach_keyrings(metadata, default=Keyring(kms))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return Notes(engine, metadata, table, key, kms)


@pytest.fixture
def notes(engine: Engine, metadata: MetaData, local_kms: LocalKms) -> Notes:
    """Thirty rows on each database in turn."""
    made = make_notes(engine, metadata, local_kms)
    made.fill(30)
    return made


class Interfering:
    """A key service beside which something else happens at each ``rewrap``."""

    def __init__(self, kms: Any, meanwhile: Any) -> None:
        self._kms = kms
        self._meanwhile = meanwhile
        self.resolve, self.describe = kms.resolve, kms.describe
        self.generate_data_key, self.unwrap = kms.generate_data_key, kms.unwrap
        self.would_rewrap, self.would_unwrap = kms.would_rewrap, kms.would_unwrap
        self.would_generate = kms.would_generate

    def rewrap(self, wrapped: Any, context: Any, **more: Any) -> Any:
        """As the other, after what happens meanwhile."""
        self._meanwhile(context)
        return self._kms.rewrap(wrapped, context, **more)


@pytest.fixture
def checkpoint_table(engine: Engine) -> Iterator[None]:
    """Leaves no table of checkpoints behind."""
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS kmsenv_checkpoints")
