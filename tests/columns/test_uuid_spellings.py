"""UUIDs that another program spelled otherwise, in columns of text."""

import uuid
from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table, Uuid, insert, select, update
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.matrix.kinds import Guid

ONE = uuid.UUID(int=(0xABC << 100) + 5)
TYPES: dict[str, Any] = {
    "digits": Uuid(native_uuid=False),
    "text": Uuid(as_uuid=False, native_uuid=False),
    "decorated": Guid(),
}


@pytest.fixture(params=["key", "scope"])
def place(request):
    """What the UUID is to the value."""
    return request.param


@pytest.fixture(params=TYPES)
def foreign(request, place, engine, metadata, keyring):
    """A table, its only row, whose UUID is in capitals, and the condition that names the row."""
    if request.param == "decorated" and engine.dialect.name == "postgresql":
        pytest.skip("there the database spells it")
    kind = TYPES[request.param]
    value = str(ONE) if request.param == "text" else ONE
    number: Column = Column("number", Integer, primary_key=place == "scope", autoincrement=False)
    named: Column = Column("named", kind, primary_key=place == "key", nullable=False)
    how: dict[str, Any] = {"scope": ["named"]} if place == "scope" else {}
    columns: list[Column[Any]] = [Column(name, Encrypted(String, **how)) for name in "vw"]
    table = Table("kmsenv_foreign", metadata, number, named, *columns)
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"number": 1, "named": value, "w": "before"})
        connection.exec_driver_sql(f"UPDATE kmsenv_foreign SET named = '{ONE.hex.upper()}'")
    return table, table.c.named == value if place == "key" else table.c.number == 1


def test_nothing_is_written_that_would_not_open(foreign, place, engine):
    """A value is bound to one spelling, which the row of another program does not have."""
    table, where = foreign
    statement = update(table).where(where).values(v="x")
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite" and place == "scope":
            with pytest.raises(UnboundValueError, match="cannot name a row as it is stored"):
                connection.execute(statement)
        else:
            assert connection.execute(statement).rowcount == 0
        assert connection.scalars(select(table.c.v)).all() == [None]


def test_the_row_takes_values_once_it_is_spelled_as_others_are(foreign, engine):
    """What there is to do about such rows, on every database."""
    table, where = foreign
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kmsenv_foreign SET named = lower(named)")
        assert connection.execute(update(table).where(where).values(v="x")).rowcount == 1
        assert connection.scalars(select(table.c.v)).all() == ["x"]


@pytest.mark.parametrize("also", [{}, {"named": "the row's own"}])
def test_upsert_spells_the_row_as_others_are(foreign, place, engine, also):
    """MySQL finds it in capitals; what it writes, and what the row had before, must open."""
    table, where = foreign
    if engine.dialect.name not in ("mysql", "mariadb") or place == "scope":
        pytest.skip("there a row in capitals is another row")
    statement = mysql.insert(table).values(number=2, named=where.right.value, v="x")
    sets = {"v": statement.inserted.v} | {name: table.c[name] for name in also}
    with engine.begin() as connection:
        connection.execute(statement.on_duplicate_key_update(**sets))
        row = connection.execute(select(table.c.number, table.c.v, table.c.w)).one()
    assert row == (1, "x", "before")
