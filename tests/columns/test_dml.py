"""The private attributes of SQLAlchemy that are read, on the version that is installed."""

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.dialects import mysql, postgresql

from sqlalchemy_kmsenv.columns import dml

TABLE = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", String))


def test_values_are_found_under_the_keys_of_their_columns():
    """``_values`` on both lines of releases, ``_ordered_values`` on 2.0."""
    given = dml.inline_values(insert(TABLE).values(id=1, v="x"), [{}])
    assert {key: value.source for key, value in given.items()} == {
        "id": dml.FromStatement(1), "v": dml.FromStatement("x"),
    }  # fmt: skip
    ordered = update(TABLE).ordered_values((TABLE.c.v, "x"))
    assert dml.inline_values(ordered, [{}])["v"].source == dml.FromStatement("x")
    named = dml.inline_values(update(TABLE).values(v=bindparam("p")), [{"p": "y"}])
    assert named["v"].source == dml.FromParameters("p")
    expression = dml.inline_values(update(TABLE).values(v=TABLE.c.id), [{}])
    assert isinstance(expression["v"].source, dml.FromDatabase)


def test_shapes_are_recognised():
    """``_multi_values``, ``_select_names`` and ``_post_values_clause``."""
    assert dml.has_many_inline_rows(insert(TABLE).values([{"id": 1}]))
    assert not dml.has_many_inline_rows(insert(TABLE).values(id=1))
    copied = insert(TABLE).from_select(["id", "v"], select(TABLE))
    assert list(dml.select_names(copied)) == ["id", "v"]
    assert dml.conflict_columns(insert(TABLE)) is None
    conflict = postgresql.insert(TABLE).on_conflict_do_update(index_elements=["id"], set_={"v": 1})
    assert dml.conflict_columns(conflict) == {"v"}
    assert dml.conflict_columns(postgresql.insert(TABLE).on_conflict_do_nothing()) == set()
    assert dml.conflict_columns(mysql.insert(TABLE).on_duplicate_key_update(v=1)) == {"v"}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (TABLE.c.id == 1, {"id": dml.FromStatement(1)}),
        ((TABLE.c.id == 1) & (TABLE.c.v == "x"),
         {"id": dml.FromStatement(1), "v": dml.FromStatement("x")}),
        (TABLE.c.id == bindparam("p"), {"id": dml.FromParameters("p")}),
        ((TABLE.c.id == 1) | (TABLE.c.v == "x"), {}),
        (TABLE.c.id > 1, {}),
        (~(TABLE.c.id == 1), {}),
        (TABLE.c.id == TABLE.c.v, {}),
    ],
)  # fmt: skip
def test_only_the_top_level_and_of_where_names_a_row(where, found):
    """An OR, a negation or a comparison may hit other rows."""
    statement = update(TABLE).where(where)
    assert dml.where_values(statement, TABLE, [{"p": 5}]) == found
