"""What somebody gains who may CREATE in a schema of PostgreSQL's search_path: nothing.

A function, type or operator that is named without its schema may be theirs, and say that
a row is another one, so that its values open there.
"""

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Enum,
    Identity,
    Integer,
    Sequence,
    String,
    Table,
    Text,
    Uuid,
    create_engine,
    insert,
    select,
    text,
    update,
)

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.columns.own_operators import equal_to_one
from sqlalchemy_kmsenv.columns.spelling import StoredText, spelled
from sqlalchemy_kmsenv.columns.stored_rows import read_stored
from sqlalchemy_kmsenv.rewrap import rewrap, survey, verify
from tests.columns import test_key_types
from tests.columns.test_kinds import KEYS
from tests.conftest import on

ALL_KEYS = KEYS | test_key_types.KEYS
NAMES = (
    "convert_to", "encode", "to_char", "uuid_send", "replace", "lower", "date_ge", "date_le",
    "timestamp_ge", "timestamp_le", "timezone", "nextval", "generate_series", "to_regclass",
    "pg_get_serial_sequence", "has_sequence_privilege", "textlike", "substr", "length",
    "strpos", "int4eq", "texteq", "convert_from", "getdatabaseencoding",
)  # fmt: skip
OPERATORS = ("||", "=", "<>", ">=", "<=", "<", ">")
TYPES = ("text", "bytea", "uuid", "date", "regclass", "name")

# Everything of these names once more, with the same arguments, and nothing but an error.
OVERRIDE = """
DO $do$
DECLARE
  one record;
  head text;
  lie text := ' LANGUAGE plpgsql AS $$ BEGIN RAISE ''the hostile one was called''; END $$';
BEGIN
  FOR one IN
    SELECT proname AS name, pg_get_function_identity_arguments(oid) AS arguments,
           pg_get_function_result(oid) AS result
      FROM pg_proc
     WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
       AND proname = ANY ('{{{names}}}')
  LOOP
    head := format('CREATE FUNCTION hostile.%I(%s)', one.name, one.arguments);
    EXECUTE head || ' RETURNS ' || one.result || lie;
  END LOOP;
  EXECUTE 'CREATE FUNCTION hostile.convert_to(text, text) RETURNS bytea' || lie;
  EXECUTE 'CREATE FUNCTION hostile.nextval(text) RETURNS bigint' || lie;
  FOR one IN
    SELECT oprname AS name, format_type(oprleft, NULL) AS a, format_type(oprright, NULL) AS b,
           format_type(oprresult, NULL) AS result, format('hostile.f%s', oid) AS call
      FROM pg_operator
     WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY ('{{{operators}}}')
       AND format_type(oprleft, NULL) !~ '^(any|-)' AND format_type(oprright, NULL) !~ '^any'
  LOOP
    head := format('CREATE FUNCTION %s(%s, %s)', one.call, one.a, one.b);
    EXECUTE head || ' RETURNS ' || one.result || lie;
    head := format('CREATE OPERATOR hostile.%s', one.name);
    EXECUTE head || format('(LEFTARG=%s, RIGHTARG=%s, FUNCTION=%s)', one.a, one.b, one.call);
  END LOOP;
END $do$
"""


@pytest.fixture
def take_over(engine, metadata):
    """A connection where hostile objects come before PostgreSQL's own; gone before the tables."""
    with engine.connect() as connection:

        def take_over():
            run = connection.exec_driver_sql
            run("CREATE SCHEMA hostile")
            override = OVERRIDE.format(names=",".join(NAMES), operators=",".join(OPERATORS))
            run(override.replace("%", "%%"))
            for name in TYPES:
                run(f"CREATE DOMAIN hostile.{name} AS pg_catalog.int2")
            run("SET LOCAL search_path TO hostile, pg_catalog, public")
            return connection

        yield take_over
        connection.rollback()


def created(metadata, engine, keyring, *columns):
    """A table of the columns and an encrypted one, attached and created."""
    table = Table("kmsenv_watched", metadata, *columns, Column("v", Encrypted(String)))
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


@on("postgresql")
@pytest.mark.parametrize("kind", ALL_KEYS)
def test_nothing_of_a_hostile_schema_names_a_row(kind, take_over, engine, metadata, keyring):
    """Neither an exact match nor a better one than PostgreSQL's own is ever called."""
    sqlalchemy_type, keys = ALL_KEYS[kind]
    key = Column("key", sqlalchemy_type, primary_key=True, autoincrement=False)
    also = Column("also", sqlalchemy_type, nullable=False)
    watched: Column = Column("w", Encrypted(String, scope=["also"]))
    table = created(metadata, engine, keyring, key, also, watched)
    rows = [{"key": key, "also": key, "v": repr(key), "w": repr(key)} for key in keys]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)

    seen = take_over().execute(select(table.c.v, table.c.w)).all()

    assert sorted(seen) == sorted((row["v"], row["w"]) for row in rows)


@on("postgresql")
def test_a_hostile_function_does_not_spell_a_text(take_over, engine, metadata, keyring):
    """The guard of an UPDATE compares what is stored, not what somebody says is."""
    table = created(metadata, engine, keyring, Column("key", String(9), primary_key=True))
    with engine.begin() as connection:
        connection.execute(insert(table), {"key": "\u00e4", "v": "x"})

    assert take_over().scalars(select(StoredText(table.c.key))).all() == [spelled("\u00e4")]


@on("postgresql")
@pytest.mark.parametrize("sequence", [None, Sequence("kmsenv_watched_seq")])
def test_keys_taken_ahead_are_the_sequences_own(sequence, take_over, engine, metadata, keyring):
    """Somebody who chose the keys of new rows could have them sealed for rows of theirs."""
    arguments = [] if sequence is None else [sequence]
    table = created(metadata, engine, keyring, Column("key", Integer, *arguments, primary_key=True))

    connection = take_over()
    connection.execute(insert(table), [{"v": "a"}, {"v": "b"}])

    assert connection.execute(select(table)).all() == [(1, "a"), (2, "b")]


LOOKED_UP: dict[str, Any] = {
    "bigint": (BigInteger, [7, 8]),
    "text": (Text, ["a", "b"]),
    "varchar": (String(9), ["a", "b"]),
    "uuid": (Uuid, [uuid.UUID(int=7), uuid.UUID(int=8)]),
    "timestamptz": (
        DateTime(timezone=True),
        [datetime.datetime(2024, 2, day, tzinfo=datetime.UTC) for day in (28, 29)],
    ),
    "kmsenv_watched_enum": (Enum("a", "b", name="kmsenv_watched_enum"), ["a", "b"]),
}
# It fits better than PostgreSQL's own, or as well, and comes before it.
EQUAL = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.same({0}, {0}) RETURNS boolean LANGUAGE plpgsql
  AS $$ BEGIN RAISE 'the hostile one was called'; END $$;
CREATE OPERATOR hostile.= (LEFTARG={0}, RIGHTARG={0}, FUNCTION=hostile.same);
SET LOCAL search_path TO hostile, pg_catalog, public
"""


def mislead(connection, type_name):
    """Let ``=`` of one type be somebody's own, for this transaction."""
    for statement in EQUAL.format(type_name).split(";\n"):
        connection.exec_driver_sql(statement)


@on("postgresql")
@pytest.mark.parametrize("kind", LOOKED_UP)
def test_no_hostile_operator_says_which_row_a_value_is_sealed_for(kind, engine, metadata, keyring):
    """What the library looks up, and guards an UPDATE with, goes by PostgreSQL's own."""
    type_, values = LOOKED_UP[kind]
    key = Column("key", type_, primary_key=True, autoincrement=False)
    also = Column("also", type_, nullable=False)
    watched: Column = Column("w", Encrypted(String, scope=["also"]))
    number: Column = Column("number", Integer, unique=True)
    table = created(metadata, engine, keyring, key, also, watched, number)
    rows = [{"key": each, "also": each, "number": n} for n, each in enumerate(values)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    keys = [(each,) for each in values]

    with engine.connect() as connection:
        mislead(connection, kind)
        for some in (keys[:1], keys):
            assert read_stored(connection, [table.c.key], some, [table.c.also], {}) == some
        both = [(each, each) for each in values]
        found = read_stored(connection, [table.c.key, table.c.also], both, [table.c.number], {})
        done = connection.execute(update(table).where(table.c.number == 1).values(v="x", w="y"))
        seen = connection.execute(select(table.c.v, table.c.w).where(table.c.number == 1)).all()
        connection.rollback()

    assert found == [(0,), (1,)]
    assert done.rowcount == 1
    assert seen == [("x", "y")]


@on("postgresql")
def test_no_hostile_operator_takes_the_value_of_a_new_row(engine, metadata, keyring):
    """It is written once the database has said the key, by an UPDATE."""
    key = Column("key", BigInteger, Identity(always=True), primary_key=True)
    table = created(metadata, engine, keyring, key)

    with engine.connect() as connection:
        mislead(connection, "bigint")
        connection.execute(insert(table), {"v": "a"})
        connection.execute(insert(table), [{"v": "b"}, {"v": "c"}])
        seen = connection.scalars(select(table.c.v).order_by(table.c.key)).all()
        connection.rollback()

    assert seen == ["a", "b", "c"]


@on("postgresql")
def test_a_look_up_goes_by_the_index(engine, metadata, keyring):
    """An operator with its schema is the one that the index has."""
    number = Column("number", Integer, unique=True, nullable=False)
    table = created(metadata, engine, keyring, Column("key", String(9), primary_key=True), number)
    with engine.begin() as connection:
        rows = [{"key": f"k{n}", "number": n} for n in range(5_000)]
        connection.execute(insert(table), rows)
        connection.exec_driver_sql("ANALYZE kmsenv_watched")
        for some in (["k1"], [f"k{n}" for n in range(20)]):
            where = equal_to_one(table.c.key, some, connection.dialect)
            query = select(table.c.number).where(where)
            sql = query.compile(connection, compile_kwargs={"literal_binds": True})
            plan = "\n".join(connection.scalars(text(f"EXPLAIN {sql}".replace(":", "\\:"))))
            assert "Index" in plan
            assert "Seq Scan" not in plan


@on("postgresql")
def test_a_job_believes_no_function_of_a_hostile_schema(engine, metadata, keyring):
    """It says that a key may be disabled, and writes what it read."""
    table = created(metadata, engine, keyring, Column("key", Integer, primary_key=True))
    path = "-c search_path=hostile,pg_catalog,public"
    misled = create_engine(engine.url, connect_args={"options": path})
    override = OVERRIDE.format(names="substr,length,to_regclass", operators="||")
    with engine.begin() as connection:
        connection.execute(insert(table), [{"key": n, "v": str(n)} for n in range(5)])
        connection.exec_driver_sql("CREATE SCHEMA hostile")
        connection.exec_driver_sql(override.replace("%", "%%"))
    try:
        assert survey(misled, metadata).ok
        for job in (rewrap, verify):
            report = job(misled, metadata)
            assert report.ok
            assert report.counts.rows == 5
    finally:
        misled.dispose()
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA hostile CASCADE")
