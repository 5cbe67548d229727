"""The private attributes of SQLAlchemy that are read, on the version that is installed."""

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import InvalidRequestError

from sqlalchemy_kmsenv.columns import dml, insert_clauses
from sqlalchemy_kmsenv.columns.conflicts import conflicts
from sqlalchemy_kmsenv.columns.outputs import is_null

TABLE = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", String))


def test_values_are_found_under_the_keys_of_their_columns():
    """``_values`` on both lines of releases, ``_ordered_values`` on 2.0."""
    given = dml.inline_values(insert(TABLE).values(id=1, v="x"), TABLE, [{}])
    assert {key: value.source for key, value in given.items()} == {
        "id": dml.FromStatement(1), "v": dml.FromStatement("x"),
    }  # fmt: skip
    ordered = update(TABLE).ordered_values((TABLE.c.v, "x"))
    assert dml.inline_values(ordered, TABLE, [{}])["v"].source == dml.FromStatement("x")
    named = dml.inline_values(update(TABLE).values(v=bindparam("p")), TABLE, [{"p": "y"}])
    assert named["v"].source == dml.FromParameters("p")
    expression = dml.inline_values(update(TABLE).values(v=TABLE.c.id), TABLE, [{}])
    assert isinstance(expression["v"].source, dml.FromDatabase)


def test_shapes_are_recognised():
    """``_multi_values``, ``_select_names``, ``_prefixes`` and ``_inline``."""
    rows = insert(TABLE).values([{"id": 1}, {TABLE.c.id: 2}]).values([(3, "x")])
    assert dml.inline_rows(rows, TABLE) == [{"id": 1}, {"id": 2}, {"id": 3, "v": "x"}]
    changed = dml.with_inline_rows(rows, TABLE, {"id": [7, 8, 9]})
    assert [row["id"] for row in dml.inline_rows(changed, TABLE)] == [7, 8, 9]
    assert [row["id"] for row in dml.inline_rows(rows, TABLE)] == [1, 2, 3]
    computed = insert(TABLE).values([{"id": TABLE.c.id}])
    assert dml.inline_rows(computed, TABLE) == [{"id": dml.FromDatabase()}]
    assert dml.inline_rows(insert(TABLE).values(id=1), TABLE) == []
    assert insert_clauses.prefixes(insert(TABLE).prefix_with("IGNORE")) == ["IGNORE"]
    assert insert_clauses.prefixes(insert(TABLE)) == []
    assert insert_clauses.is_inline(insert(TABLE).inline())
    assert not insert_clauses.is_inline(insert(TABLE))
    copied = insert(TABLE).from_select(["id", "v"], select(TABLE))
    assert list(insert_clauses.select_names(copied)) == ["id", "v"]


def test_the_table_of_a_bulk_statement_is_in_its_annotations():
    """Where the ORM says that it is one; a copy of the table is looked up in its MetaData."""
    other = Table(
        "u", TABLE.metadata, Column("id", Integer, primary_key=True), extend_existing=True
    )
    for statement, name in (
        (insert(TABLE), "_emit_insert_table"),
        (update(TABLE), "_emit_update_table"),
    ):
        assert dml.table_of(statement._annotate({name: other})) is TABLE
        assert dml.table_of(statement._annotate({"dml_strategy": "bulk", name: other})) is other
        assert dml.table_of(statement._annotate({"dml_strategy": "orm", name: other})) is TABLE


def test_what_an_upsert_does_is_read_from_its_clause():
    """The target of ON CONFLICT, and what it sets to which value."""
    assert conflicts(insert(TABLE)) == []
    new = postgresql.insert(TABLE)
    (conflict,) = conflicts(
        new.on_conflict_do_update(index_elements=["id"], set_={"v": new.excluded.v, "id": 1})
    )
    assert conflict.target == {"id"}
    assert conflict.sets_new("v")
    assert not conflict.sets_new("id")
    (conflict,) = conflicts(
        new.on_conflict_do_update(constraint=TABLE.primary_key, set_={"v": None})
    )
    assert conflict.target == {"id"}
    assert conflict.sets["v"] is None or is_null(conflict.sets["v"])
    (conflict,) = conflicts(
        new.on_conflict_do_update(constraint="t_v_key", set_={"v": new.excluded.id})
    )
    assert conflict.target == frozenset()
    assert not conflict.sets_new("v")
    (conflict,) = conflicts(postgresql.insert(TABLE).on_conflict_do_nothing())
    assert conflict.sets == {}
    duplicate = mysql.insert(TABLE)
    (conflict,) = conflicts(duplicate.on_duplicate_key_update(v=duplicate.inserted.v))
    assert conflict.target == {"id"}
    assert conflict.sets_new("v")


def test_every_conflict_clause_of_a_statement_counts():
    """SQLAlchemy 2.1 takes several on SQLite; none may hide behind another."""
    try:
        statement = (
            sqlite.insert(TABLE)
            .on_conflict_do_update(index_elements=["v"], set_={"id": 1})
            .on_conflict_do_nothing()
        )
    except InvalidRequestError:
        # SQLAlchemy 2.0 refuses the second.
        return
    assert [set(each.sets) for each in conflicts(statement)] == [{"id"}, set()]


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
