"""Upserts: which values reach the row that is there, and that each opens in it."""

import enum
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Enum,
    Integer,
    String,
    Table,
    bindparam,
    case,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.columns.test_composite_keys import Guid
from tests.conftest import on

DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}


@pytest.fixture
def models(engine, keyring, database):
    """Settings by number and by text, contacts by a natural key; one row of each."""

    class Base(DeclarativeBase):
        pass

    class Columns:
        tenant = mapped_column(String(20), nullable=False, default="t1")
        text = mapped_column(Encrypted(String))
        secret = mapped_column(Encrypted(String, scope=["tenant"]))
        loose = mapped_column(Encrypted(String, bind="column"))

    class Numbered(Columns, Base):
        __tablename__ = "kmsenv_numbered"
        key = mapped_column(Integer, primary_key=True, autoincrement=False)
        name = mapped_column(String(20), unique=True)

    class Setting(Base):
        __tablename__ = "kmsenv_settings"
        key = mapped_column(String(40), primary_key=True)
        text = mapped_column(Encrypted(String))
        loose = mapped_column(Encrypted(String, bind="column"))

    class Contact(Base):
        __tablename__ = "kmsenv_contacts"
        id = mapped_column(Integer, primary_key=True)
        crm_id = mapped_column(String(40), nullable=False, unique=True)
        phone = mapped_column(Encrypted(String, identity=["crm_id"]))

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    old = {"text": "old text", "secret": "old secret", "loose": "old loose"}
    with engine.begin() as connection:
        connection.execute(insert(Numbered), [{"key": n, **old} for n in (1, 2)])
        connection.execute(insert(Setting), {"key": "a", "text": "old", "loose": "old loose"})
        connection.execute(insert(Contact), {"crm_id": "a", "phone": "old"})
    yield SimpleNamespace(Numbered=Numbered, Setting=Setting, Contact=Contact, database=database)
    Base.metadata.drop_all(engine)


def upserting(database, model, make, target="key", rows=None):
    """The upsert of each dialect; ``make`` gets the new row's columns."""
    new = DIALECTS[database].insert(model.__table__)
    new = new if rows is None else new.values(rows)
    if database == "mariadb":
        return new.on_duplicate_key_update(make(new.inserted))
    return new.on_conflict_do_update(index_elements=[target], set_=make(new.excluded))


def read(engine, column, key):
    """Every value of a column, by the key of its row."""
    with Session(engine) as session:
        return {row[0]: row[1] for row in session.execute(select(key, column))}


@pytest.mark.parametrize("inserted", ["x", "y"])
@pytest.mark.parametrize("how", ["one", "one set", "many sets", "rows in values"])
@pytest.mark.parametrize("column", ["text", "secret", "loose"])
def test_a_python_value_is_sealed_for_the_row_that_survives(how, inserted, column, engine, models):
    """Shared helpers of upserts set what the caller gives, whether VALUES has it too or not."""
    model, database = models.Numbered, models.database
    rows = [{"key": key, column: inserted} for key in (1, 2, 3)]
    rows = rows[:1] if how.startswith("one") else rows
    own = {column: "x", "tenant": "t1"} if column == "secret" else {column: "x"}
    in_statement = how in ("one", "rows in values")
    given: Any = None if not in_statement else rows[0] if how == "one" else rows

    def make(new):
        return own | ({"tenant": new.tenant} if "tenant" in own else {})

    statement = upserting(database, model, make, rows=given)
    if how == "many sets" and inserted == "y" and database == "mariadb":
        # PyMySQL makes one INSERT of them, and takes no parameters behind VALUES.
        with engine.begin() as connection:
            with pytest.raises(UnboundValueError, match="row by row"):
                connection.execute(statement, rows)
            for row in rows:
                connection.execute(statement, row)
    else:
        with engine.begin() as connection:
            connection.execute(statement, *([] if in_statement else [rows]))
    expected = {1: "x", 2: f"old {column}"} if len(rows) == 1 else {1: "x", 2: "x", 3: inserted}
    assert read(engine, getattr(model, column), model.key) == expected


@pytest.mark.parametrize("column", ["text", "loose"])
def test_an_upsert_by_a_text_key_takes_the_value_along(column, database, engine, models):
    """Airflow's variables and Prefect's blocks: the key is a text, and its collation may vary."""
    model = models.Setting
    for key, value in [("a", "new"), ("b", "other")]:
        row = {"key": key, column: value}
        statement = upserting(database, model, lambda _, v=value: {column: v}, rows=row)
        with Session(engine) as session:
            session.execute(statement)
            session.commit()
    assert read(engine, getattr(model, column), model.key) == {"a": "new", "b": "other"}


@on("sqlite", "postgresql")
def test_each_parameter_set_has_a_value_of_its_own(database, engine, models):
    """The envelope of one row would not open in another."""
    statement = upserting(database, models.Numbered, lambda _: {"text": bindparam("newer")})
    rows = [{"key": key, "text": "first", "newer": f"newer {key}"} for key in (1, 2, 3)]
    seen: list[str] = []
    event.listen(engine, "after_execute", lambda *args: seen.append(repr(args[2])))
    with engine.begin() as connection:
        connection.execute(statement, rows)
    assert seen
    assert not any("newer 1" in each for each in seen)
    found = read(engine, models.Numbered.text, models.Numbered.key)
    assert found == {1: "newer 1", 2: "newer 2", 3: "first"}


def test_a_column_that_is_not_inserted_can_be_set(database, engine, models):
    """The row is known by its key, whatever else is given."""
    rows = [{"key": 1}, {"key": 3}]
    for given in rows, rows[0]:
        statement = upserting(database, models.Numbered, lambda _: {"text": "x"}, rows=given)
        with engine.begin() as connection:
            connection.execute(statement)
    found = read(engine, models.Numbered.text, models.Numbered.key)
    assert found == {1: "x", 2: "old text", 3: None}


EXPRESSIONS: dict[str, Any] = {
    "new or old": (func.coalesce, "new", "old text"),
    "old or new": (lambda new, old: func.coalesce(old, new), "old text", "old text"),
    "new or a value": (lambda new, _: func.coalesce(new, "x"), "new", "x"),
    "old": (lambda _, old: old, "old text", "old text"),
    "case": (lambda new, old: case((old.is_(None), new), else_=old), "old text", "old text"),
    "case of values": (lambda new, _: case((new.is_(None), "x"), else_="y"), "y", "x"),
    "nested": (lambda new, old: func.coalesce(None, case((old.is_(None), "x"), else_=new), old),
               "new", "old text"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_branches_may_be_the_rows_own_values(name, database, engine, models):
    """coalesce() and CASE pick one of several envelopes of this cell, and work on none."""
    make, with_value, with_null = EXPRESSIONS[name]
    table = models.Numbered.__table__
    for given, expected in [("new", with_value), (None, with_null)]:
        with engine.connect() as connection:
            connection.execute(
                upserting(
                    database,
                    models.Numbered,
                    lambda new: {"text": make(new.text, table.c.text)},
                    rows={"key": 1, "text": given},
                )
            )
            found = connection.scalar(select(table.c.text).where(table.c.key == 1))
        assert found == expected


REFUSED: dict[str, Any] = {
    "computed": (lambda *_: {"text": func.lower("X")}, "SQL expression"),
    "another column": (lambda new, _: {"text": new.secret}, "SQL expression"),
    "another in coalesce": (lambda new, old: {"text": func.coalesce(new.text, old.loose)},
                            "SQL expression"),
    "own function": (lambda new, _: {"text": func.mine.coalesce(new.text)}, "SQL expression"),
    "value whose scope may differ": (lambda *_: {"secret": "x"}, "may have another"),
    "old value whose scope moves": (
        lambda new, old: {"secret": func.coalesce(new.secret, old.secret), "tenant": new.tenant},
        "would leave that value unreadable"),
    "condition on a value": (
        lambda new, old: {"text": case((old.text.is_(None), new.text), else_=func.lower("x"))},
        "SQL expression"),
    "plain column from a value": (lambda new, _: {"name": func.coalesce(new.text, "x")},
                                  "encrypted"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_open_is_refused_in_words_that_are_true(name, database, engine, models):
    """Nothing is written, and the old value is still there."""
    make, words = REFUSED[name]
    table = models.Numbered.__table__
    statement = upserting(
        database,
        models.Numbered,
        lambda new: make(new, table.c),
        rows={"key": 1, "text": "canary", "secret": "canary", "tenant": "t2"},
    )
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words) as caught:
        connection.execute(statement)
    assert "canary" not in str(caught.value)
    assert read(engine, table.c.text, table.c.key) == {1: "old text", 2: "old text"}


def test_a_natural_key_that_is_the_identity_decides(database, engine, models):
    """The id is generated, so that nothing but the natural key can be there already."""
    model = models.Contact
    own = upserting(database, model, lambda _: {"phone": "own"}, target="crm_id")
    new = upserting(database, model, lambda new: {"phone": new.phone}, target="crm_id")
    with engine.begin() as connection:
        connection.execute(new, [{"crm_id": "a", "phone": "1"}, {"crm_id": "b", "phone": "2"}])
        connection.execute(own, {"crm_id": "b", "phone": "3"})
    assert read(engine, model.phone, model.crm_id) == {"a": "1", "b": "own"}


@on("mariadb")
@pytest.mark.parametrize("spelled", ["A", "a "])
def test_a_natural_key_in_another_spelling_leaves_the_value_readable(spelled, engine, models):
    """MariaDB finds the row by any spelling; a value is bound to one."""
    model = models.Contact
    statement = upserting("mariadb", model, lambda new: {"phone": new.phone})
    with engine.begin() as connection:
        connection.execute(statement, {"crm_id": spelled, "phone": "1"})
    assert list(read(engine, model.phone, model.id).values()) == ["1"]


@on("mariadb")
def test_identity_that_is_declared_is_not_advised_again(engine, models):
    """The row that is kept may spell it otherwise, and its own value would stay."""
    old = models.Contact.__table__.c.phone
    statement = upserting(
        "mariadb", models.Contact, lambda new: {"phone": func.coalesce(new.phone, old)}
    )
    words = "found here whatever its case"
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words) as told:
        connection.execute(statement, {"crm_id": "a", "phone": "1"})
    assert "identity=" not in str(told.value)


def test_a_natural_key_that_is_not_the_identity_is_named_as_a_way_out(database, engine, models):
    """The upsert by name keeps another key; the words say which declaration would do."""
    statement = upserting(
        database, models.Numbered, lambda new: {"text": new.text}, target="name",
        rows={"key": 9, "name": "n", "text": "x"},
    )  # fmt: skip
    words = "may have another kmsenv_numbered.key" + (
        "" if database == "mariadb" else r".*identity=\['name'\]"
    )
    with engine.connect() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(statement)


@on("sqlite", "postgresql")
def test_rows_that_are_sent_together_get_no_value_of_one_of_them(database, engine, models):
    """With RETURNING many rows become one statement, whose SET clause holds one value."""
    table = models.Numbered.__table__
    statement = upserting(database, models.Numbered, lambda _: {"text": "x"})
    statement = statement.returning(table.c.key, table.c.text)
    differing = [{"key": key, "text": "y"} for key in (1, 2, 3)]
    with engine.connect() as connection, pytest.raises(UnboundValueError, match="one statement"):
        connection.execute(statement, differing)
    with engine.begin() as connection:
        same = [{"key": key, "text": "x"} for key in (1, 2, 3)]
        assert sorted(connection.execute(statement, same)) == [(1, "x"), (2, "x"), (3, "x")]
        for row in differing:
            connection.execute(statement, row)
    assert read(engine, table.c.text, table.c.key) == {1: "x", 2: "x", 3: "x"}


def test_no_plaintext_of_an_upsert_reaches_the_driver(database, engine, models):
    """Values of the SET clause are parameters like others."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(repr(args[2:4])))
    statement = upserting(
        database,
        models.Numbered,
        lambda new: {"text": "canary", "loose": func.coalesce(new.loose, "canary")},
        rows=[{"key": 1, "text": "canary"}, {"key": 2, "text": "other"}],
    )
    with engine.begin() as connection:
        connection.execute(statement)
    assert sent
    assert not any("canary" in each for each in sent)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_key_of_the_applications_own_type_decides(rows, engine, database, metadata, keyring):
    """The GUID recipe: both the comparison and the parts go by what it stores."""
    table = Table(
        "kmsenv_guids",
        metadata,
        Column("key", Guid, primary_key=True),
        Column("value", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    keys = [uuid.UUID(int=number) for number in range(rows)]
    new = DIALECTS[database].insert(table)
    new = new.values([{"key": key, "value": "inserted"} for key in keys])
    if database == "mariadb":
        upsert = new.on_duplicate_key_update(key=new.inserted.key, value="set")
    else:
        upsert = new.on_conflict_do_update(index_elements=["key"], set_={"value": "set"})
    for expected in ("inserted", "set"):
        with engine.begin() as connection:
            connection.execute(upsert)
            assert connection.scalars(select(table.c.value)).all() == [expected] * rows


class Level(enum.Enum):
    """Text in the database, whose collation may ignore case."""

    LOW = 1
    HIGH = 2


@on("mariadb")
@pytest.mark.parametrize("how", [{}, {"scope": ["id"], "identity": ["code"]}])
@pytest.mark.parametrize("key", [Enum(Level), String(20), Integer()])
def test_what_stands_for_do_nothing_keeps_whichever_row_is_there(
    key, how, engine, metadata, keyring
):
    """The words of refusals name it: the key is set to itself, whatever the conflict is on."""
    table = Table(
        "kmsenv_kept", metadata,
        Column("id", key, primary_key=True, autoincrement=False),
        Column("code", Integer, unique=True, nullable=False),
        Column("text", Encrypted(String, **how)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    keys = {str: "ab", int: (1, 2)}.get(key.python_type, list(Level))
    first = {"id": keys[0], "code": 1, "text": "first"}
    others = [{"id": keys[0], "code": 2, "text": "x"}, {"id": keys[1], "code": 1, "text": "x"}]
    new = mysql.insert(table)
    words = r"on_duplicate_key_update\(id=kmsenv_kept.c.id\)"
    setting = new.on_duplicate_key_update(text=new.inserted.text)
    with engine.begin() as connection:
        connection.execute(new, first)
        for refused in (new.prefix_with("IGNORE"), setting):
            with pytest.raises(UnboundValueError, match=words):
                connection.execute(refused.values(others[1]))
        for row in others:
            connection.execute(new.on_duplicate_key_update(id=table.c.id), row)
        assert [dict(row) for row in connection.execute(select(table)).mappings()] == [first]
