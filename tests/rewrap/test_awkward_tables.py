"""Tables as DBAs have them: generated columns, odd keys, columns that are too short."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Computed,
    Integer,
    String,
    Table,
    insert,
    select,
)

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.rewrap import rewrap, survey


def made(engine, metadata, keyring, *columns):
    """An empty table with these columns and an encrypted ``text``."""
    table = Table(
        "kmsenv_rewrap_awkward",
        metadata,
        *columns,
        Column("text", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


def test_a_table_with_a_generated_column_is_served(engine, metadata, keyring, local_kms):
    """No statement may set such a column, not even to itself."""
    table = made(
        engine,
        metadata,
        keyring,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("double", Integer, Computed("id * 2", persisted=True)),
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "text": f"{n}"} for n in range(5)])
    local_kms.rotate()

    report = rewrap(engine, metadata)

    assert report.ok
    assert report.counts.rewritten == 5
    assert survey(engine, metadata).ok
    with engine.connect() as connection:
        found = connection.execute(select(table).order_by(table.c.id)).all()
    assert [tuple(row) for row in found] == [(n, 2 * n, f"{n}") for n in range(5)]
