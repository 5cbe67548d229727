"""The part of a row as Python makes it and as the database does: one text a value, for each."""

import datetime as dt
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Date,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    create_engine,
    insert,
    literal,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, KmsEnvError, attach_keyrings
from sqlalchemy_kmsenv.columns.bound_columns import bound_columns
from sqlalchemy_kmsenv.columns.packing import PackedCell
from tests.columns.test_key_types import KEYS, OF_STATE, Guid, precise
from tests.conftest import on

# PostgreSQL keeps no NUL in texts, MySQL's DATETIME nothing before the year 1000.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TIMES = st.datetimes(dt.datetime(1000, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001
EDGES: dict[str, tuple[Any, Any, list[Any]]] = {
    "int": (Integer(), st.integers(-(2**31), 2**31 - 1), [0, -(2**31), 2**31 - 1]),
    "str": (String(20), TEXTS, [*" '%:\\\U0001f600\u00e9", "", "a ", "e\u0301"]),
    "uuid": (Uuid(), st.uuids(version=4), [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    "bytes": (
        LargeBinary(20).with_variant(mysql.VARBINARY(20), "mysql", "mariadb"),
        st.binary(max_size=20),
        [b"", b"\0", b"\xe5\x01", b" "],
    ),
    "date": (Date(), st.dates(dt.date(1000, 1, 1)), [dt.date(1582, 10, 10), dt.date.max]),
    "date and time": (precise(), TIMES, [dt.datetime.max]),  # noqa: DTZ901
    "aware": (
        precise(timezone=True),
        TIMES.map(lambda value: value.replace(tzinfo=dt.UTC)),
        [dt.datetime.max.replace(tzinfo=dt.UTC)],
    ),
    "enum": (KEYS["enum"][0], st.sampled_from(OF_STATE), OF_STATE),
    **{
        name: (KEYS[name][0], st.uuids(), [uuid.UUID(int=0)])
        for name in KEYS
        if isinstance(KEYS[name][0], Guid)
    },
}  # fmt: skip


def sections(table: Any) -> Any:
    """What the database says that each row is."""
    nothing = literal(b"", LargeBinary())
    parts = tuple((bound.kind, bound.column) for bound in bound_columns(table, ["key"], "", ""))
    packed: Any = type_coerce(PackedCell(nothing, parts), LargeBinary)
    return select(table.c.n, packed).order_by(table.c.n)


@pytest.mark.parametrize("kind", EDGES)
def test_python_and_the_database_make_the_same_part_of_every_value(kind, engine, metadata):
    """What is sealed for one would not open for the other."""
    sqlalchemy_type, values, edges = EDGES[kind]
    table = Table(
        "kmsenv_rendered",
        metadata,
        Column("n", Integer, primary_key=True, autoincrement=False),
        Column("key", sqlalchemy_type, nullable=False),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    (bound,) = bound_columns(table, ["key"], "", "")

    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    )
    @given(st.lists(values, min_size=50, max_size=120))
    def compare(drawn):
        keys = [*edges, *drawn]
        with engine.connect() as connection:
            connection.execute(insert(table), [{"n": n, "key": key} for n, key in enumerate(keys)])
            found = [bytes(as_bytes(part)) for _, part in connection.execute(sections(table))]
            assert found == bound.parts(keys, engine.dialect)
            connection.rollback()

    compare()


def as_bytes(value):
    """MariaDB makes a text of what has nothing binary in it."""
    return value.encode() if isinstance(value, str) else value


# What a database may hold beside what a model writes, by what its column is there.
ALIKE: dict[str, list[tuple[Any, str, list[str]]]] = {
    "postgresql": [
        (Date(), "date", ["'0044-03-15'", "'0044-03-15 BC'", "'infinity'", "'-infinity'"]),
        (precise(), "timestamp", ["'0044-03-15'", "'0044-03-15 BC'", "'infinity'", "'-infinity'"]),
        (
            precise(timezone=True),
            "timestamptz",
            ["'0044-03-15Z'", "'0044-03-15Z BC'", "'infinity'", "'10001-01-01'", "'20001-01-01'"],
        ),
        (
            Uuid(native_uuid=False),
            "char(36)",
            ["'00000000000000000000000000000007'", "'00000000-0000-0000-0000-000000000007'"],
        ),
        (
            KEYS["guid, text everywhere"][0],
            "text",
            ["'00000000000000000000000000000007'", "'00000000-0000-0000-0000-000000000007'"],
        ),
    ],
    "mariadb": [
        (String(9), "varchar(9) character set cp932", ["x'8754'", "x'fa4a'", "'?'"]),
        (String(9), "varchar(9) character set sjis", ["x'815c'", "x'5c'", "x'815f'", "'?'"]),
        (String(9), "varchar(9) character set ascii", ["x'80'", "x'ff'", "'?'"]),
        (String(9), "varchar(9) character set latin1", ["x'81'", "x'ff'", "'?'"]),
        (String(9), "varchar(9) character set cp1257", ["x'a1'", "x'a5'", "'a'"]),
        (String(9), "varchar(9) character set armscii8", ["x'29'", "x'a4'", "x'ff'", "x'27'"]),
        (String(9), "varchar(9) character set tis620", ["x'a0'", "x'ff'", "x'a1'", "'?'"]),
        (String(9), "varbinary(9)", ["x'80'", "x'ff'", "'?'", "'a'"]),
        (
            Uuid(),
            "char(36)",
            ["'00000000000000000000000000000007'", "'00000000-0000-0000-0000-000000000007'"],
        ),
        (
            KEYS["guid of hyphens"][0],
            "char(36)",
            [
                "'00000000000000000000000000000007'",
                "'00000000-0000-0000-0000-000000000007'",
                "'0000000-00000-0000-0000-000000000007'",
            ],
        ),
    ],
    "sqlite": [
        (
            KEYS["guid of hyphens"][0],
            "char(36)",
            [
                "'0123456789abcdef0123456789abcdef'",
                "'01234567-89ab-cdef-0123-456789abcdef'",
                "'01234567-89AB-cdef-0123-456789abcdef'",
                "'0123456-789ab-cdef-0123-456789abcdef'",
                "CAST('01234567-89ab-cdef-0123-456789abcdef' AS BLOB)",
            ],
        ),
        (KEYS["guid of bytes"][0], "blob", ["x'00'", "zeroblob(16)", "'00000000000000000'", "0"]),
        (
            precise(),
            "datetime",
            [
                "'2026-01-02 03:04:05.000006'",
                "'2026-01-02T03:04:05.000006'",
                "'2026-01-02 03:04:05.000006 '",
                "'20260102 030405.000006'",
                "CAST('2026-01-02 03:04:05.000006' AS BLOB)",
            ],
        ),
    ],
}


@pytest.mark.parametrize("case", range(10))
def test_no_two_values_of_a_column_make_one_part(case, engine, database):
    """Whoever may write the table could give a row of theirs the values of another."""
    if case >= len(ALIKE[database]):
        pytest.skip("fewer cases for this database")
    sqlalchemy_type, column, stored = ALIKE[database][case]
    table = Table(
        "kmsenv_alike",
        MetaData(),
        Column("n", Integer, primary_key=True),
        Column("key", sqlalchemy_type, nullable=False),
    )
    key = engine.dialect.identifier_preparer.quote("key")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS kmsenv_alike"))
        connection.execute(text(f"CREATE TABLE kmsenv_alike (n integer, {key} {column})"))
        for n, value in enumerate(stored):
            connection.execute(text(f"INSERT INTO kmsenv_alike VALUES ({n}, {value})"))
        rendered = [part for _, part in connection.execute(sections(table))]
        assert len(rendered) == len(stored)
        named = [bytes(as_bytes(part)) for part in rendered if part]
        assert named
        assert len(set(named)) == len(named)
        connection.execute(text("DROP TABLE kmsenv_alike"))


@on("postgresql")
def test_a_value_beside_a_date_that_python_lacks_is_refused_and_not_none(engine, metadata, keyring):
    """``infinity`` made NULL of a value that was there."""
    table = Table(
        "kmsenv_ends",
        metadata,
        Column("day", Date, primary_key=True),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"day": dt.date(2026, 1, 1), "v": "x"})
        connection.execute(text("UPDATE kmsenv_ends SET day = 'infinity'"))
        with pytest.raises(KmsEnvError):
            connection.scalars(select(table.c.v)).all()


@on("postgresql")
@pytest.mark.parametrize(
    ("encoding", "codes"), [("EUC_TW", "a1f0 8ea1a1f0"), ("EUC_JP", "ade2 8fa2f1")]
)
def test_two_codes_of_one_character_name_two_rows(encoding, codes, engine):
    """PostgreSQL takes both, and makes the same UTF-8 of them."""
    name = f"{engine.url.database}_{encoding.lower()}"
    admin = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        made = f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"
        connection.execute(text(made))
    table = Table(
        "kmsenv_codes",
        MetaData(),
        Column("n", Integer, primary_key=True),
        Column("key", String, nullable=False),
    )
    other = create_engine(engine.url.set(database=name), connect_args={"client_encoding": "utf8"})
    with other.begin() as connection:
        table.create(connection)
        for n, code in enumerate([*codes.split(), "61"]):
            value = f"convert_from(decode('{code}', 'hex'), '{encoding}')"
            connection.execute(text(f"INSERT INTO kmsenv_codes VALUES ({n}, {value})"))
        (_, one), (_, two), (_, plain) = connection.execute(sections(table)).all()
    other.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()

    assert bytes(one) != bytes(two)
    assert bytes(plain) == b"s61:"


@on("sqlite")
@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_in_utf_16_is_refused_before_anything_is_written(encoding, metadata, keyring):
    """The text of a part would be in UTF-16, too, and no value could be opened."""
    table = Table(
        "kmsenv_wide",
        metadata,
        Column("key", Integer, primary_key=True),
        Column("v", Encrypted(String)),
        Column("w", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=keyring)
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA encoding = '{encoding}'")
        metadata.create_all(connection)
        for statement in (insert(table), table.update().where(table.c.key == 1)):
            with pytest.raises(ConfigurationError, match="in UTF-8"):
                connection.execute(statement.values(key=1, v="x"))
        assert connection.execute(select(table.c.v)).all() == []


@on("mariadb")
def test_a_stored_function_of_the_same_name_is_not_called(engine, metadata, keyring):
    """MySQL's and MariaDB's own functions come first where no database is named."""
    table = Table(
        "kmsenv_own",
        metadata,
        Column("key", String(9), primary_key=True),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    names = ("lower", "hex", "concat", "coalesce", "charset", "locate", "replace", "if")
    with engine.begin() as connection:
        connection.execute(insert(table), {"key": "a", "v": "x"})
        made = []
        for name in names:
            connection.execute(text(f"DROP FUNCTION IF EXISTS {engine.url.database}.`{name}`"))
            connection.execute(
                text(
                    f"CREATE FUNCTION {engine.url.database}.`{name}` (x TEXT) RETURNS TEXT"
                    " DETERMINISTIC RETURN 'hostile'"
                )
            )
            made.append(name)
        try:
            assert connection.scalars(select(table.c.v)).all() == ["x"]
        finally:
            for name in made:
                connection.execute(text(f"DROP FUNCTION {engine.url.database}.`{name}`"))
