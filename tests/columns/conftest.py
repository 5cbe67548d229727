"""A mapped class with encrypted columns, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Integer,
    LargeBinary,
    String,
    Table,
    event,
    select,
    type_coerce,
)
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings


def stored(connection: Any, column: Column[Any], *where: Any) -> bytes:
    """The bytes of a cell as the database holds them."""
    query = select(type_coerce(column, LargeBinary)).where(*where)
    return bytes(connection.execute(query).scalar_one())


def copy_stored(connection: Any, table: Table, column: str, *, source: int, target: int) -> None:
    """What somebody with UPDATE on the table can do: move the bytes of a cell."""
    raw = stored(connection, table.c[column], table.c.id == source)
    overwrite(connection, table, column, raw, target)


def overwrite(connection: Any, table: Table, column: str, raw: bytes | str, row: int) -> None:
    """Write any bytes, or text, into a cell behind the library's back."""
    marker = {"qmark": "?", "numeric_dollar": "$1"}.get(connection.dialect.paramstyle, "%s")
    name = connection.dialect.identifier_preparer.format_table(table)
    connection.exec_driver_sql(f"UPDATE {name} SET {column} = {marker} WHERE id = {row}", (raw,))


@pytest.fixture
def models(engine: Engine, keyring: Keyring) -> Iterator[SimpleNamespace]:
    """``Ping`` with a row-bound column, one scoped by device, and a second of the same type."""

    class Base(DeclarativeBase):
        pass

    class Ping(Base):
        __tablename__ = "kmsenv_pings"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        device_id = mapped_column(String(40), nullable=False, default="d1")
        plain = mapped_column(String(40))
        position = mapped_column(Encrypted(JSON))
        note = mapped_column(Encrypted(String))
        secret = mapped_column(Encrypted(String, scope=["device_id"]))

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Base=Base, Ping=Ping, table=Ping.__table__)
    Base.metadata.drop_all(engine)


@pytest.fixture
def session(engine: Engine, models: SimpleNamespace) -> Iterator[Session]:
    """A session on each database."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def statements(engine: Engine, models: SimpleNamespace) -> Iterator[list[str]]:
    """The SQL that reached the driver since the tables were made."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    event.listen(engine, "after_cursor_execute", note)
    yield seen
    event.remove(engine, "after_cursor_execute", note)
