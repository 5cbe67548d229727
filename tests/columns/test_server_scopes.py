"""Scopes that the server makes: rows are sealed afterwards, though their keys may be known."""

from __future__ import annotations

import uuid
import warnings
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    Sequence,
    String,
    Table,
    Uuid,
    create_engine,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

from sqlalchemy_kmsenv import Encrypted, UnboundValueError, attach_keyrings
from tests.conftest import on


def _some_code() -> str:
    return uuid.uuid4().hex[:8]


def keys_of(kind: str) -> list[Column]:
    """The key columns of each kind."""
    if kind == "uuid":
        return [Column("id", Uuid, primary_key=True, default=uuid.uuid4)]
    if kind == "sequence":
        return [Column("id", Integer, Sequence("kmsenv_scopes_seq"), primary_key=True)]
    if kind == "composite":
        return [
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("part", String(9), primary_key=True, default="p"),
        ]
    return [Column("id", Integer, primary_key=True)]


@pytest.fixture
def make(engine, metadata, keyring):
    """Makes the table with a key of some kind, and the region of a row left to the server."""

    def table(kind: str, **options) -> Table:
        made = Table(
            "kmsenv_scopes",
            metadata,
            *keys_of(kind),
            Column("code", String(9), unique=True, nullable=False, default=_some_code),
            Column("region", String(9), nullable=False, server_default="eu"),
            Column("text", Encrypted(String(20), scope=["region"], **options)),
        )
        attach_keyrings(metadata, keyring)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        return made

    yield table
    metadata.drop_all(engine)


def rows_of(kind: str) -> list[dict[str, object]]:
    """Two rows, with what of the key the application has to give."""
    given = [{"id": 7}, {"id": 3}] if kind == "composite" else [{}, {}]
    return [{**key, "text": f"t{n}"} for n, key in enumerate(given)]


KINDS = ["generated", "sequence", "uuid", "composite"]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_get_their_values_and_tell_of_keys_as_ever(make, engine, kind):
    """One, many, and many that are returned in their order."""
    table = make(kind)
    with engine.begin() as connection:
        connection.execute(insert(table), rows_of(kind))
    with engine.begin() as connection:
        found = connection.execute(select(table.c.text, table.c.region))
        assert sorted(map(tuple, found)) == [("t0", "eu"), ("t1", "eu")]


@pytest.mark.parametrize("kind", ["uuid", "composite"])
def test_returning_without_a_key_that_is_known(make, engine, kind):
    """Not refused for it, and no error of SQLAlchemy's."""
    if not engine.dialect.insert_returning:
        pytest.skip("no RETURNING")
    table = make(kind)
    one, other = rows_of(kind)
    with engine.begin() as connection:
        returned = insert(table).returning(table.c.text, table.c.region)
        assert connection.execute(returned, one).all() == [("t0", "eu")]
        assert connection.scalars(insert(table).returning(table.c.text), [other]).all() == ["t1"]
        assert sorted(connection.scalars(select(table.c.text))) == ["t0", "t1"]


def test_a_given_key_is_not_taken_for_the_last_one_that_was_counted(make, engine):
    """LAST_INSERT_ID() speaks of another row then, whose value would be overwritten."""
    dialects = ["mysql+pymysql", "mariadb+pymysql"] if "mysql" in engine.dialect.name else [None]
    table = make("generated")
    for number, drivername in enumerate(dialects):
        own = create_engine(engine.url.set(drivername=drivername)) if drivername else engine
        with own.begin() as connection:
            connection.execute(insert(table), {"text": "before"})
            given = {"id": 50 + 9 * number, "text": "given"}
            returned = connection.scalars(insert(table).returning(table.c.text), given)
            assert returned.all() == ["given"]
        with own.begin() as connection:
            found = sorted(connection.scalars(select(table.c.text)))
            assert found == [*["before"] * (number + 1), *["given"] * (number + 1)]
        own.dispose()


@on("mariadb")
def test_a_key_of_a_sequence_has_to_be_returned(make, engine):
    """LAST_INSERT_ID() knows nothing of sequences: refused before anything is sent."""
    table = make("sequence")
    own = create_engine(engine.url.set(drivername="mariadb+pymysql"))
    with own.begin() as connection:
        with pytest.raises(UnboundValueError, match="add it to returning"):
            connection.execute(insert(table).returning(table.c.text), {"text": "t"})
        assert connection.scalar(select(func.count()).select_from(table)) == 0
        returned = insert(table).returning(table.c.id, table.c.text)
        assert connection.execute(returned, {"text": "t"}).one().text == "t"
    own.dispose()


def test_a_key_that_the_database_computes_has_to_be_returned(make, engine):
    """It is neither given nor counted up."""
    if not engine.dialect.insert_returning:
        pytest.skip("no RETURNING")
    table = make("generated", identity=["code"])
    with engine.begin() as connection:
        connection.execute(insert(table), {"code": "a", "text": "before"})
        other = insert(table).values(id=literal(40) + 10, code="b", text="t")
        with pytest.raises(UnboundValueError, match="add it to returning"):
            connection.execute(other.returning(table.c.text))
        assert connection.scalars(other.returning(table.c.id)).all() == [50]
        assert sorted(connection.scalars(select(table.c.text))) == ["before", "t"]


@on("mariadb")
def test_keys_that_make_the_database_count(make, engine):
    """None in every row is a key that is not given; 0 is one, and another is stored."""
    table = make("generated", identity=["code"])
    with engine.begin() as connection:
        with pytest.raises(UnboundValueError, match="given as 0"):
            connection.execute(insert(table), {"id": 0, "code": "z", "text": "z"})
        many = [{"id": None, "code": code, "text": code} for code in "ab"]
        connection.execute(insert(table), many)
        assert sorted(connection.scalars(select(table.c.text))) == ["a", "b"]


def test_rows_in_values_and_inline_work_where_their_keys_are_given(make, engine):
    """Nothing has to be asked of the database."""
    table = make("generated")
    values = [{"id": 9, "text": "nine"}, {"id": 4, "text": "four"}]
    with engine.begin() as connection:
        connection.execute(insert(table).values(values))
        connection.execute(insert(table).inline(), {"id": 1, "text": "x"})
        found = connection.execute(select(table.c.id, table.c.text).order_by(table.c.id))
        assert found.all() == [(1, "x"), (4, "four"), (9, "nine")]


def test_in_autocommit_the_message_names_what_is_missing(make, engine):
    """To give the key would not help."""
    table = make("uuid")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(UnboundValueError, match=r"give kmsenv_scopes\.region with each row"):
            connection.execute(insert(table), {"text": "t"})
        connection.execute(insert(table), {"text": "t", "region": "us"})
        assert connection.scalars(select(table.c.text)).all() == ["t"]


@pytest.mark.parametrize("kind", ["composite", "generated"])
@pytest.mark.parametrize("key", [7, 8])
def test_an_insert_that_may_skip_tells_of_a_given_key_what_a_plain_one_tells(
    make, engine, database, kind, key
):
    """Nothing was asked of the statement: no rows come back, and the key is the given one."""
    table = make(kind)
    statement: Any = insert(table).prefix_with("IGNORE")
    if database != "mariadb":
        own = {"sqlite": sqlite, "postgresql": postgresql}[database]
        statement = own.insert(table).on_conflict_do_nothing()
    with warnings.catch_warnings(), engine.begin() as connection:
        warnings.simplefilter("ignore")  # PyMySQL's, of the duplicate.
        connection.execute(insert(table), {"id": 7, "text": "there"})
        result = connection.execute(statement, {"id": key, "text": "new"})
        assert not result.returns_rows
        assert result.rowcount == key - 7
        assert result.inserted_primary_key == ((key, "p") if kind == "composite" else (key,))
        found = connection.execute(select(table.c.id, table.c.text).order_by(table.c.id))
        assert found.all() == [(7, "there"), (8, "new")][: key - 6]


@on("postgresql")
def test_return_defaults_tells_of_a_key_that_was_taken_ahead(make, engine):
    """It is a default like the others."""
    table = make("generated")
    for statement in (insert(table).return_defaults(), insert(table).return_defaults(table.c.id)):
        with engine.begin() as connection:
            result = connection.execute(statement, {"text": "t"})
            assert result.returned_defaults.id == result.inserted_primary_key.id


def scoped(engine, metadata, keyring, scope):
    """A table whose values are bound to this column too."""
    text_of: Column = Column("text", Encrypted(String(20), scope=["scope"]))
    table = Table(
        "kmsenv_spelled_scopes", metadata, Column("id", Integer, primary_key=True), scope, text_of
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


@on("sqlite")
@pytest.mark.parametrize(
    "case",
    [
        (DateTime(), func.now(), "six digits of a second"),
        (DateTime(), text("(datetime('now', 'localtime'))"), "six digits of a second"),
        (Uuid(), text("(hex(randomblob(16)))"), "lower-case digits"),
    ],
)
def test_what_sqlite_spells_otherwise_is_refused(engine, metadata, keyring, case):
    """It would be sealed, committed, and never opened again; so would a row that is there."""
    kind, made, words = case
    scope: Column = Column("scope", kind, nullable=False, server_default=made)
    table = scoped(engine, metadata, keyring, scope)
    with engine.connect() as connection:
        with pytest.raises(UnboundValueError, match=words):
            connection.execute(insert(table), {"text": "t"})
        with pytest.raises(UnboundValueError, match="rolled back"):
            connection.commit()
        connection.rollback()
        assert connection.execute(select(table)).all() == []
        connection.execute(insert(table), {"id": 1})
        with pytest.raises(UnboundValueError, match="mend rows"):
            connection.execute(update(table).where(table.c.id == 1).values(text="t"))
    _flush(engine, table, words)


def _flush(engine, table, words) -> None:
    class Base(DeclarativeBase):
        metadata = table.metadata

    class Row(Base):
        __table__ = table

    with Session(engine) as session:
        row: Any = Row()
        session.add(row)
        session.commit()
        assert row.scope is not None
        row.text = "t"
        with pytest.raises(UnboundValueError, match=words):
            session.commit()


@on("sqlite")
def test_sqlite_can_make_a_time_as_sqlalchemy_stores_it(engine, metadata, keyring):
    """As the message says."""
    made = text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))")
    table = scoped(
        engine, metadata, keyring, Column("scope", DateTime, nullable=False, server_default=made)
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"text": "t"}, {"text": "u"}])
        connection.execute(update(table).where(table.c.id == 1).values(text="v"))
        assert sorted(connection.scalars(select(table.c.text))) == ["u", "v"]
