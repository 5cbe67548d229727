"""What drivers do differently: other types of bytes, no counts, limits of a statement."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    event,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql

from sqlalchemy_kmsenv import Encrypted, EnvelopeError, attach_keyrings
from tests.columns.conftest import overwrite
from tests.conftest import on


@pytest.fixture
def make(engine, metadata, keyring):
    """Makes a table with one encrypted column, and another with a scope."""

    def made(inner, **options):
        table = Table(
            "kmsenv_drivers",
            metadata,
            Column("id", Integer, primary_key=True, **options),
            Column("tenant", String(9), nullable=False, default="t"),
            Column("value", Encrypted(inner)),
            Column("scoped", Encrypted(inner, scope=["tenant"])),
        )
        attach_keyrings(metadata, keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        return table

    return made


@on("sqlite")
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_may_come_as_another_type(kind, engine, make):
    """psycopg2 gives memoryview; whoever sets a row factory, what they like."""
    table = make(String)
    rows = [{"id": n, "value": f"v{n}", "scoped": f"s{n}"} for n in range(3)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)

    @event.listens_for(engine, "connect")
    def connected(driver, _):
        driver.row_factory = lambda _, row: tuple(
            kind(each) if isinstance(each, bytes) else each for each in row
        )

    engine.dispose()
    with engine.begin() as connection:
        query = select(table.c.value, table.c.scoped).order_by(table.c.id)
        assert connection.execute(query).all() == [(f"v{n}", f"s{n}") for n in range(3)]
        overwrite(connection, table, "value", "text", 1)
        with pytest.raises(EnvelopeError, match=r"kmsenv_drivers\.value"):
            connection.execute(query).all()


@on("sqlite")
@pytest.mark.parametrize("rows", [1, 2, 501, 1001])
def test_rows_that_the_driver_does_not_count_are_looked_for(rows, engine, make):
    """Some say nothing of how many rows an UPDATE hit: it is asked whether they are there."""
    table = make(String)
    engine.dialect.supports_sane_rowcount = False
    engine.dialect.supports_sane_multi_rowcount = False
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with engine.begin() as connection:
        connection.execute(insert(table), [{"value": f"v{n}"} for n in range(rows)])
        found = connection.scalars(select(table.c.value).order_by(table.c.id)).all()
    assert found == [f"v{n}" for n in range(rows)]
    assert sum("count(" in each for each in sent) == -(-rows // 500)


@on("mariadb")
@pytest.mark.parametrize(
    ("sizes", "statements"),
    [([1_200_000, 1, 1], 2), ([1, 1_200_000, 1], 3), ([600_000] * 3, 3), ([1_200_000] * 2, 2)],
)
def test_a_large_value_goes_in_a_statement_of_its_own(sizes, statements, engine, make):
    """Wherever it stands among the rows, and no statement is empty."""
    table = make(LargeBinary)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with engine.begin() as connection:
        connection.execute(insert(table).return_defaults(), [{"value": b"x" * n} for n in sizes])
        found = connection.scalars(select(table.c.value).order_by(table.c.id)).all()
    assert [len(each) for each in found] == sizes
    assert sum(each.startswith("UPDATE") for each in sent) == statements


MIXED: dict[str, tuple[Any, list[Any]]] = {
    "numbers": (Numeric, [decimal.Decimal("1.50"), 2, 0.25, decimal.Decimal(3)]),
    "numbers, whole first": (Numeric, [2, decimal.Decimal("1.50"), 0.25]),
    "intervals": (postgresql.INTERVAL, [datetime.timedelta(hours=1), None]),
    "bits of text": (String, ["a", None, "b"]),
}


@pytest.mark.parametrize("name", MIXED)
def test_each_value_of_a_batch_keeps_its_own_type(name, engine, make):
    """A column of numbers takes several types; a type of one database what Python has for it."""
    inner, values = MIXED[name]
    table = make(inner, autoincrement=False)
    with engine.begin() as connection:
        connection.execute(
            insert(table), [{"id": n, "value": each} for n, each in enumerate(values)]
        )
        found = connection.scalars(select(table.c.value).order_by(table.c.id)).all()
    assert [(type(each), each) for each in found] == [(type(each), each) for each in values]


@on("sqlite")
def test_a_transaction_that_the_application_begins_counts(engine, make):
    """The recipe for SQLite's own transactions: the driver commits by itself, until BEGIN."""
    table = make(String)

    @event.listens_for(engine, "connect")
    def connected(driver, _):
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN")

    engine.dispose()
    with engine.begin() as connection:
        connection.execute(insert(table), {"value": "v"})
        assert connection.scalars(select(table.c.value)).all() == ["v"]
