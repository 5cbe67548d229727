"""UNION: the first SELECT says the type, and so whether a value is opened."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    cast,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings

NOTHING = {
    "null()": null(),
    "cast(null())": cast(null(), LargeBinary),
    "literal(None)": literal(None),
}


@pytest.fixture
def table(engine, metadata, keyring):
    """Two rows, one of them without a value."""
    table = Table(
        "kmsenv_unions",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"id": 1, "v": "secret"}, {"id": 2, "v": None}])
    return table


def _nested(query):
    rows = query.subquery()
    return select(rows.c.id, rows.c.v)


def _recursive(query):
    rows = query.cte("rows")
    return select(rows.c.id, rows.c.v)


@pytest.mark.parametrize("wrap", [lambda query: query, _nested, _recursive])
@pytest.mark.parametrize("nothing", NOTHING)
def test_union_that_begins_with_null_is_refused_and_the_other_way_round_it_opens(
    engine, table, nothing, wrap
):
    """The column of the UNION would have the type of NULL, and give out envelopes as they are."""
    without = select(table.c.id, NOTHING[nothing].label("v")).where(table.c.id == 1)
    with_value = select(table.c.id, table.c.v)
    with Session(engine) as session:
        with pytest.raises(UnboundValueError, match=r"first SELECT .* put the SELECT of .* first"):
            session.execute(wrap(union_all(without, with_value))).all()
        rows = session.execute(wrap(union_all(with_value, without))).all()

    assert set(map(tuple, rows)) == {(1, "secret"), (1, None), (2, None)}
