"""Which row an upsert finds: by names of columns, by constraints, by indexes, or by whatever is."""

from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import (
    Column,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    case,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import registry
from sqlalchemy.sql.elements import Grouping

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on

DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}


@pytest.fixture
def made(engine, keyring, metadata):
    """Makes a table of what it is given and two encrypted columns, each with its own identity."""

    def make(*things):
        table = Table(
            "kmsenv_conflicts",
            metadata,
            *things,
            Column("text", Encrypted(String)),
            Column("secret", Encrypted(String, identity=["number"])),
        )
        attach_keyrings(metadata, default=keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        old = {"id": 1, "number": 5, "text": "old text", "secret": "old secret"}
        with engine.begin() as connection:
            connection.execute(insert(table), old)
        return table

    return make


def keys(*, swapped=False, **options):
    """Two columns that each name a row; swapped, each has the name of the other one's key."""
    names = ("number", "id") if swapped else ("id", "number")
    yield Column(names[0], Integer, key="id", primary_key=True, autoincrement=False)
    yield Column(names[1], Integer, key="number", nullable=False, **options)


def rows(engine, table):
    """All that the table holds."""
    with engine.connect() as connection:
        query = select(table.c.id, table.c.number, table.c.text, table.c.secret)
        return [tuple(row) for row in connection.execute(query.order_by(table.c.id))]


OLD = (1, 5, "old text", "old secret")


def upsert(engine, statement, *, id, number, refused):  # noqa: A002
    """Execute it with one row, or see it refused."""
    row = {"id": id, "number": number, "text": "new text", "secret": "new secret"}
    if not refused:
        with engine.begin() as connection:
            connection.execute(statement, row)
        return
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="may have another"):
        connection.execute(statement, row)


@on("sqlite", "postgresql")
@pytest.mark.parametrize("key", ["id", "number"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_in_index_elements_is_a_name_of_the_database(swapped, key, database, engine, made):
    """SQLAlchemy writes it into the SQL as it is, even where another column has it as its key."""
    table = made(*keys(swapped=swapped, unique=True))
    new = DIALECTS[database].insert(table)
    given = {"id": 1, "number": 6} if key == "id" else {"id": 2, "number": 5}
    own, other = ("text", "secret") if key == "id" else ("secret", "text")
    for element in (table.c[key], table.c[key].name):
        for name, refused in [(own, False), (other, True)]:
            statement = new.on_conflict_do_update(
                index_elements=[element], set_={name: new.excluded[name]}
            )
            upsert(engine, statement, **given, refused=refused)
    expected = {"text": OLD[2], "secret": OLD[3], own: f"new {own}"}
    assert rows(engine, table) == [(1, 5, *expected.values())]


@on("sqlite", "postgresql")
@pytest.mark.parametrize("key", ["id", "number"])
def test_an_attribute_in_index_elements_is_the_column_that_it_maps(key, database, engine, made):
    """Whatever it is called, and the other column is."""
    table = made(*keys(unique=True))

    class Row:
        id: Any
        number: Any

    mapping = registry()
    mapping.map_imperatively(Row, table, properties={"id": table.c.number, "number": table.c.id})
    attribute = Row.number if key == "id" else Row.id
    new = DIALECTS[database].insert(table)
    given = {"id": 1, "number": 6} if key == "id" else {"id": 2, "number": 5}
    own, other = ("text", "secret") if key == "id" else ("secret", "text")
    for name, refused in [(own, False), (other, True)]:
        statement = new.on_conflict_do_update(
            index_elements=[attribute], set_={name: new.excluded[name]}
        )
        upsert(engine, statement, **given, refused=refused)
    mapping.dispose()


@on("sqlite", "postgresql")
@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_in_set_is_a_key_or_else_a_name(swapped, database, engine, made):
    """So SQLAlchemy reads it; what it sets is what counts."""
    table = made(*keys(swapped=swapped, unique=True))
    new = DIALECTS[database].insert(table)
    statement = new.on_conflict_do_update(
        index_elements=[table.c.id], set_={"secret": "set", "number": new.excluded.number}
    )
    upsert(engine, statement, id=1, number=6, refused=False)
    assert rows(engine, table) == [(1, 6, "old text", "set")]


CONSTRAINTS: dict[str, tuple[Any, str]] = {
    "of the primary key, unnamed": (lambda _: "kmsenv_conflicts_pkey", "text"),
    "the primary key": (lambda table: table.primary_key, "text"),
    "unique, by name": (lambda _: "kmsenv_one_number", "secret"),
    "unique": (lambda table: named(table, "kmsenv_one_number"), "secret"),
    "over both": (lambda _: "kmsenv_pair", "text and secret"),
}
"""What ON CONFLICT ON CONSTRAINT names, and the columns that are sealed for the row it finds."""


def named(table, name):
    """A constraint of the table."""
    return next(each for each in table.constraints if each.name == name)


@on("postgresql")
@pytest.mark.parametrize("which", CONSTRAINTS)
def test_a_constraint_stands_for_its_columns(which, engine, made):
    """Each of several unique ones for its own, and PostgreSQL's name for a primary key."""
    table = made(
        *keys(),
        UniqueConstraint("number", name="kmsenv_one_number"),
        UniqueConstraint("id", "number", name="kmsenv_pair"),
    )
    make, own = CONSTRAINTS[which]
    new = postgresql.insert(table)
    for name in ("text", "secret"):
        statement = new.on_conflict_do_update(
            constraint=make(table), set_={name: new.excluded[name]}
        )
        if name not in own:
            upsert(engine, statement, id=1, number=5, refused=True)
        else:
            upsert(engine, statement, **GIVEN[own], refused=False)
    assert rows(engine, table) == [
        (1, 5, *(f"new {each}" if each in own else f"old {each}" for each in ("text", "secret")))
    ]


GIVEN = {
    "text": {"id": 1, "number": 6},
    "secret": {"id": 2, "number": 5},
    "text and secret": {"id": 1, "number": 5},
}
"""Rows that are there already by one key, or by both."""


@on("postgresql")
def test_the_constraint_of_no_column_that_is_known_decides_nothing(engine, made):
    """An exclusion constraint, or one that the model does not have."""
    table = made(*keys(unique=True))
    new = postgresql.insert(table)
    statement = new.on_conflict_do_update(
        constraint="kmsenv_conflicts_number_key", set_={"secret": new.excluded.secret}
    )
    upsert(engine, statement, id=2, number=5, refused=True)
    assert rows(engine, table) == [OLD]


@on("sqlite")
def test_whatever_key_is_there_already_decides_nothing(engine, made):
    """SQLite takes DO UPDATE without a target, for a conflict on any of the keys."""
    table = made(*keys(unique=True))
    new = sqlite.insert(table)
    for name in ("text", "secret"):
        statement = new.on_conflict_do_update(set_={name: new.excluded[name]})
        upsert(engine, statement, id=2, number=5, refused=True)
    assert rows(engine, table) == [OLD]


INDEXES: dict[str, tuple[Any, bool]] = {
    "of another column": (lambda t: Index("kmsenv_other", t.c.code, unique=True), False),
    "of the same column": (lambda t: Index("kmsenv_same", t.c.number, unique=True), True),
    "of another, not unique": (lambda t: Index("kmsenv_other", t.c.code), True),
    "of its beginning": (
        lambda t: Index("kmsenv_begin", t.c.code, unique=True, mysql_length=2, mariadb_length=2),
        False),
    "of an expression": (
        lambda t: Index("kmsenv_lower", func.lower(t.c.code), t.c.number, unique=True), False),
}  # fmt: skip


@on("mariadb")
@pytest.mark.parametrize("identity", ["number", "code"])
@pytest.mark.parametrize("which", INDEXES)
def test_every_unique_index_may_be_the_one_that_mysql_finds(
    which, identity, engine, metadata, keyring
):
    """ON DUPLICATE KEY has no target: what all of them have in common decides."""
    make, allowed = INDEXES[which]
    table = Table(
        "kmsenv_conflicts",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("number", Integer, nullable=False, unique=identity == "number"),
        Column("code", String(20), nullable=False, unique=identity == "code"),
        Column("secret", Encrypted(String, identity=[identity])),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    make(table)
    if identity == "code":
        allowed = which in ("of another column", "of another, not unique")
    new = mysql.insert(table)
    statement = new.on_duplicate_key_update(secret=new.inserted.secret)
    given = {"number": 5, "code": "abc", "secret": "1"}
    if not allowed:
        with engine.connect() as connection, pytest.raises(UnboundValueError, match="another"):
            connection.execute(statement, given)
        return
    for value in "12":
        with engine.begin() as connection:
            connection.execute(statement, given | {"secret": value})
            assert connection.scalars(select(table.c.secret)).all() == [value]


NESTED: dict[str, Any] = {
    "by itself": lambda asking, _: asking,
    "a result": lambda asking, new: case((new.is_not(None), asking)),
    "else": lambda asking, new: case((new.is_(None), new), else_=asking),
    "coalesce": lambda asking, _: func.coalesce(None, asking),
    "ifnull": func.ifnull,
    "brackets": lambda asking, new: case((new.is_not(None), Grouping(asking))),
}
"""A CASE where the value of a column comes from."""


@on("sqlite", "postgresql")
@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("where", NESTED)
def test_case_may_ask_for_any_column_but_an_encrypted_one(where, by_value, database, engine, made):
    """However deep it stands, it would ask for envelopes."""
    if where == "ifnull" and database == "postgresql":
        pytest.skip("PostgreSQL has no ifnull()")
    table = made(*keys(unique=True))
    insertion = DIALECTS[database].insert(table)
    new = insertion.excluded.text

    def asking(condition):
        case_of = case((true(), new), value=condition, else_=new)
        value = NESTED[where](case_of if by_value else case((condition, new), else_=new), new)
        return insertion.on_conflict_do_update(index_elements=["id"], set_={"text": value})

    row = {"id": 1, "number": 5, "text": "new text"}
    with engine.connect() as connection:
        for refused in (func.length(table.c.secret) > 0, func.length(new) > 0):
            with pytest.raises(UnboundValueError, match="encrypted"):
                connection.execute(asking(refused), row)
        connection.execute(asking(table.c.number == 5), row)
        assert connection.scalar(select(table.c.text)) == "new text"


@on("sqlite")
@pytest.mark.skipif(sqlalchemy.__version__ < "2.1", reason="a new clause takes the old one's place")
def test_each_of_several_clauses_sets_values_of_its_own(engine, made):
    """Where it sets nothing that is encrypted, it stays as it is."""
    table = made(
        *keys(unique=True), Column("plain", String(9)), Column("code", Integer, unique=True)
    )
    with engine.begin() as connection:
        for row in (2, 3):
            given = {"id": row, "number": row, "code": row, "text": "old", "secret": "old"}
            connection.execute(insert(table), given)
    statement = (
        sqlite.insert(table)
        .on_conflict_do_update(index_elements=["id"], set_={"text": "by id"})
        .on_conflict_do_update(index_elements=["code"], set_={"plain": "by code"})
        .on_conflict_do_update(index_elements=["number"], set_={"secret": "by number"})
    )
    new = [
        {"id": 1, "number": 9, "code": 9, "text": "x", "secret": "x"},
        {"id": 7, "number": 2, "code": 7, "text": "x", "secret": "x"},
        {"id": 8, "number": 8, "code": 3, "text": "x", "secret": "x"},
    ]
    with engine.begin() as connection:
        connection.execute(statement, new)
        assert connection.scalars(select(table.c.plain)).all() == [None, None, "by code"]
    assert rows(engine, table) == [
        (1, 5, "by id", "old secret"),
        (2, 2, "old", "by number"),
        (3, 3, "old", "old"),
    ]


UNMATCHED: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "left out": ({}, {}, True),
    "NULL": ({}, {"code": None}, True),
    "a value": ({}, {"code": 7}, False),
    "an expression": ({}, {"code": func.abs(-7)}, False),
    "a default": ({"default": 7}, {}, False),
    "a default, given NULL": ({"default": 7}, {"code": None}, True),
    "a default of the server": ({"server_default": "7"}, {}, False),
    "a default of the server, given NULL": ({"server_default": "7"}, {"code": None}, False),
}
"""What a column that is unique as well has, what is given for it, and whether that decides none."""


@on("mariadb")
@pytest.mark.parametrize("key", ["left out", "given"])
@pytest.mark.parametrize("what", UNMATCHED)
def test_a_key_that_is_null_or_new_finds_no_row(what, key, engine, metadata, keyring):
    """NULL is in no unique key, and a generated one is another row's never."""
    options, code, allowed = UNMATCHED[what]
    table = Table(
        "kmsenv_conflicts",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("number", Integer, nullable=False, unique=True),
        Column("code", Integer, unique=True, **options),
        Column("secret", Encrypted(String, identity=["number"])),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    given = code | {"number": 5, "secret": "new"} | ({"id": 3} if key == "given" else {})
    new = mysql.insert(table).values(**given)
    statement = new.on_duplicate_key_update(secret=new.inserted.secret)
    if not allowed or key == "given":
        with engine.connect() as connection, pytest.raises(UnboundValueError, match="another"):
            connection.execute(statement)
        return
    with engine.begin() as connection:
        connection.execute(insert(table).values(number=5, secret="old", **code))
        connection.execute(statement)
        assert connection.scalars(select(table.c.secret)).all() == ["new"]
