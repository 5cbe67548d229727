"""INSERTs whose keys are taken ahead on PostgreSQL do and tell what those of plain columns do."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from tests.conftest import on

ROWS = [{"text": "one"}, {"text": "two"}]
INSERTS = {
    "a row, inline()": lambda t: (insert(t).inline(), ROWS[0]),
    "values, inline()": lambda t: (insert(t).inline().values(ROWS[0]), None),
    "a row, inline() and return_defaults()": lambda t: (
        insert(t).inline().return_defaults(t.c.id),
        ROWS[0],
    ),
    "a row": lambda t: (insert(t), ROWS[0]),
    "a row, return_defaults()": lambda t: (insert(t).return_defaults(t.c.id), ROWS[0]),
    "rows": lambda t: (insert(t), ROWS),
    "rows, return_defaults()": lambda t: (insert(t).return_defaults(t.c.id), ROWS),
}

pytestmark = on("postgresql")


def told(engine, made, statement, parameters):
    """What the result says, and what the table holds."""
    with engine.begin() as connection:
        result = connection.execute(statement, parameters)
        one = not isinstance(parameters, list)
        keys = [tuple(result.inserted_primary_key)] if one else result.inserted_primary_key_rows
        rows = connection.execute(select(made.c.id, made.c.text).order_by(made.c.id)).all()
        return result.returns_rows, keys, result.returned_defaults_rows, rows


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("name", INSERTS)
def test_a_result_tells_of_a_key_what_a_plain_one_tells(name, implicit, engine, keyring):
    """Nothing where SQLAlchemy would not have asked for it."""
    found = []
    for inner in (String(20), Encrypted(String(20))):
        metadata = MetaData()
        made = Table(
            "kmsenv_taken",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("text", inner),
            implicit_returning=implicit,
        )
        attach_keyrings(metadata, keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        try:
            found.append(told(engine, made, *INSERTS[name](made)))
        finally:
            metadata.drop_all(engine)
    assert found[1] == found[0]


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_an_insert_in_a_cte_beside_keeps_its_own_key(rows, engine, metadata, keyring):
    """SQLAlchemy gives a parameter of the outer INSERT to it too, where the names are the same."""
    table = Table(
        "kmsenv_outer",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("text", Encrypted(String(20))),
        Column("other", Integer),
    )
    other = Table(
        "kmsenv_inner",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("plain", String(20)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    made = insert(other).values(plain="p").returning(other.c.id).cte("made")
    statement = insert(table).values(other=select(made.c.id).scalar_subquery()).add_cte(made)
    with engine.begin() as connection:
        keys = connection.scalars(statement.returning(table.c.id), rows).all()
        found = connection.execute(select(table).order_by(table.c.id)).all()
        assert found == [(key, row["text"], 1) for key, row in zip(keys, rows, strict=True)]
        assert connection.execute(select(other)).all() == [(1, "p")]
    metadata.drop_all(engine)
