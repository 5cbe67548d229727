"""Refusals whose advice was followed, and shapes that were refused in vain."""

import uuid
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Column,
    Computed,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    bindparam,
    column,
    event,
    insert,
    null,
    select,
    table,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, registry

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, UnboundValueError, attach_keyrings


def created(engine, metadata, keyring, *columns):
    """A new table."""
    made = Table("kmsenv_advice", metadata, *columns)
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return made


def keyed(*columns):
    """Columns after a key that the application gives."""
    return Column("id", Integer, primary_key=True, autoincrement=False), *columns


CASCADE: dict[str, Any] = {
    "identity": ({"onupdate": "CASCADE"}, {"identity": ["id"]}),
    "another scope": ({"onupdate": "CASCADE"}, {"identity": ["id"], "scope": ["tenant"]}),
    "column": ({"onupdate": "CASCADE"}, {"bind": "column"}),
    "no onupdate": ({}, {}),
}


def child(metadata, rule, how):
    """A parent, and a child whose primary key begins with the parent's."""
    parent = Table("kmsenv_parents", metadata, Column("name", String(9), primary_key=True))
    return parent, Table(
        "kmsenv_children",
        metadata,
        Column("parent", ForeignKey(parent.c.name, **rule), primary_key=True),
        Column("id", Integer, unique=True, nullable=False),
        Column("tenant", String(9), nullable=False),
        Column("value", Encrypted(String, **how)),
    )


@pytest.mark.parametrize("name", CASCADE)
def test_a_key_that_the_database_changes_has_the_ways_out_that_the_words_name(
    name, engine, metadata, keyring, database
):
    """Airflow's tables have such keys: the values must survive what the database does."""
    others = [
        ({}, r"identity=\[.*bind="),
        ({"scope": ["parent"], "identity": ["id"]}, "another column as scope"),
    ]
    for refused_how, words in others:
        refused = MetaData()
        with pytest.raises(ConfigurationError, match=f"take onupdate out.*{words}"):
            child(refused, {"onupdate": "CASCADE"}, refused_how)
    if database == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    rule, how = CASCADE[name]
    parent, children = child(metadata, rule, how)
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(parent), {"name": "a"})
        connection.execute(insert(children), {"parent": "a", "id": 1, "tenant": "t", "value": "x"})
        if rule:
            connection.execute(update(parent).values(name="b"))
    with engine.connect() as connection:
        found = connection.execute(select(children.c.parent, children.c.value)).one()
    assert found == ("b" if rule else "a", "x")


@pytest.mark.parametrize("given", ["values", "parameters"])
def test_ordered_values_are_sealed_in_their_order(given, engine, metadata, keyring):
    """MySQL evaluates SET from left to right, which is what ordered_values() is for."""
    made = created(engine, metadata, keyring, *keyed(
        Column("plain", String(9)), Column("value", Encrypted(String)),
        Column("loose", Encrypted(String, bind="column")),
    ))  # fmt: skip
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    inline = given == "values"
    sets = [
        (made.c.loose, "l" if inline else bindparam("a")),
        (made.c.plain, "p" if inline else bindparam("b")),
        ("value", "v" if inline else bindparam("c")),
    ]
    with engine.begin() as connection:
        connection.execute(insert(made), {"id": 1})
        statement = update(made).where(made.c.id == 1).ordered_values(*sets)
        connection.execute(statement, *([] if inline else [{"a": "l", "b": "p", "c": "v"}]))
        assert seen[-1].index("loose") < seen[-1].index("plain") < seen[-1].index("value")
        assert connection.execute(select(made)).one() == (1, "p", "v", "l")
        again = update(made).where(made.c.id == 1)
        connection.execute(again.ordered_values(("value", None), ("plain", "q")))
        assert connection.execute(select(made)).one() == (1, "q", None, "l")


def test_a_lightweight_table_is_refused_with_what_to_declare(engine, metadata, keyring):
    """Migrations use ``sa.table()``; the words name the Table that works."""
    Table("kmsenv_advice", metadata, *keyed(Column("value", LargeBinary)))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    light = table("kmsenv_advice", column("id", Integer), column("value", Encrypted(String)))
    statements: list[Any] = [
        insert(light).values(id=1, value="canary"),
        update(light).where(light.c.id == 1).values(value="canary"),
        select(light.c.value),
    ]
    for statement in statements:
        words = r"belongs to no (column of a )?Table.*declare a Table\(\.\.\.\)"
        with engine.connect() as connection, pytest.raises(UnboundValueError, match=words) as seen:
            connection.execute(statement)
        assert "canary" not in str(seen.value)
    own = MetaData()
    declared = Table("kmsenv_advice", own, *keyed(Column("value", Encrypted(String))))
    attach_keyrings(own, default=keyring)
    with engine.begin() as connection:
        connection.execute(insert(declared).values(id=1, value="x"))
        connection.execute(update(declared).where(declared.c.id == 1).values(value="y"))
        assert connection.scalar(select(declared.c.value)) == "y"


def test_a_generated_key_may_be_given_as_none(engine, metadata, keyring):
    """As the ORM of other languages does: the database makes it all the same."""
    made = created(
        engine,
        metadata,
        keyring,
        Column("id", Integer, primary_key=True),
        Column("value", Encrypted(String)),
    )
    with engine.begin() as connection:
        connection.execute(insert(made).values(id=None, value="a"))
        connection.execute(insert(made), {"id": None, "value": "b"})
        connection.execute(insert(made), [{"id": None, "value": each} for each in "cd"])
        connection.execute(insert(made), {"value": "e"})
    with engine.connect() as connection:
        assert sorted(connection.scalars(select(made.c.value))) == list("abcde")


def test_the_default_of_a_key_is_asked_once_for_each_row(engine, metadata, keyring):
    """Another key for each encrypted column would bind them to rows that are none."""
    made: list[uuid.UUID] = []

    def new_key():
        made.append(uuid.uuid4())
        return made[-1]

    rows = created(
        engine,
        metadata,
        keyring,
        Column("id", Uuid, primary_key=True, default=new_key),
        *(Column(name, Encrypted(String)) for name in "abc"),
    )
    with engine.begin() as connection:
        connection.execute(insert(rows), [dict.fromkeys("abc", each) for each in "xy"])
        found = connection.execute(select(rows)).all()
    assert sorted(made) == sorted(each.id for each in found)
    assert sorted(each[1:] for each in found) == [("x",) * 3, ("y",) * 3]


def test_a_row_whose_identity_is_not_given_is_refused_by_name(engine, metadata, keyring):
    """The words name the column that is missing."""
    made = created(engine, metadata, keyring, *keyed(
        Column("tenant", String(9), nullable=False),
        Column("value", Encrypted(String, scope=["tenant"])),
    ))  # fmt: skip
    words = r"bound to kmsenv_advice\.tenant, which this INSERT does not give"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(insert(made), {"id": 1, "value": "x"})


def test_rows_may_differ_in_what_is_not_encrypted(engine, metadata, keyring):
    """SQLAlchemy goes by the first set; that is no matter of ours."""
    made = created(engine, metadata, keyring, *keyed(
        Column("plain", String(9)), Column("value", Encrypted(String)),
        Column("other", Encrypted(String)),
    ))  # fmt: skip
    rows = [{"id": 1, "value": "a"}, {"id": 2, "value": "b", "plain": "p"}]
    with engine.begin() as connection:
        connection.execute(insert(made), rows)
        found = connection.execute(select(made.c.id, made.c.plain, made.c.value)).all()
    assert sorted(found) == [(1, None, "a"), (2, None, "b")]


def test_blanks_that_a_char_begins_with_are_part_of_it(engine, metadata, keyring):
    """A CHAR comes back padded behind; what stands before was given."""
    made = created(engine, metadata, keyring, *keyed(
        Column("tenant", CHAR(5), nullable=False),
        Column("value", Encrypted(String, scope=["tenant"])),
    ))  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(made), {"id": 1, "tenant": " a", "value": "x"})
        connection.execute(update(made).where(made.c.id == 1).values(value="y"))
        assert connection.scalar(select(made.c.value)) == "y"


def test_a_column_that_the_database_computes_names_nothing():
    """Its value is not known when a value is sealed."""
    with pytest.raises(ConfigurationError, match="is computed by the database"):
        Table("kmsenv_computed", MetaData(), *keyed(
            Column("double", Integer, Computed("id * 2"), nullable=False),
            Column("value", Encrypted(String, scope=["double"])),
        ))  # fmt: skip


def test_an_update_of_all_rows_names_no_scope(engine, metadata, keyring):
    """Without an identity there is no key to look the scope up by."""
    made = created(engine, metadata, keyring, *keyed(
        Column("tenant", String(9), nullable=False),
        Column("value", Encrypted(String, bind="column", scope=["tenant"])),
    ))  # fmt: skip
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="does not name"):
        connection.execute(update(made).values(value="x"))


def test_an_upsert_may_set_null_whichever_row_survives(engine, metadata, keyring, database):
    """NULL is bound to nothing."""
    made = created(engine, metadata, keyring, *keyed(
        Column("name", String(9), nullable=False, unique=True), Column("value", Encrypted(String)),
    ))  # fmt: skip
    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}
    for nothing in (None, null()):
        new = dialects[database].insert(made).values(id=2, name="a", value=None)
        if database == "mariadb":
            upsert = new.on_duplicate_key_update(value=nothing)
        else:
            upsert = new.on_conflict_do_update(index_elements=["name"], set_={"value": nothing})
        with engine.connect() as connection:
            connection.execute(insert(made), {"id": 1, "name": "a", "value": "x"})
            connection.execute(upsert)
            assert connection.execute(select(made)).all() == [(1, "a", None)]


def test_an_orm_update_takes_ordered_values(engine, metadata, keyring):
    """Through the ORM they come as its own statement."""
    made = created(engine, metadata, keyring, *keyed(
        Column("plain", String(9)), Column("value", Encrypted(String)),
    ))  # fmt: skip

    class Row:
        pass

    registry().map_imperatively(Row, made)
    with Session(engine) as session:
        session.execute(insert(Row), [{"id": 1}])
        sets = (made.c.value, "v"), (made.c.plain, "p")
        session.execute(update(Row).where(made.c.id == 1).ordered_values(*sets))
        session.commit()
        assert session.execute(select(made)).one() == (1, "p", "v")
