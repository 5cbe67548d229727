"""Tables as DBAs have them: generated columns, odd keys, columns that are too short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    event,
    func,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import UserDefinedType

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import reencrypt, rewrap, survey
from tests.conftest import on


def made(engine, metadata, keyring, *columns):
    """An empty table with these columns and an encrypted ``text``."""
    table = Table(
        "kmsenv_rewrap_awkward",
        metadata,
        *columns,
        Column("text", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


def test_a_table_with_a_generated_column_is_served(engine, metadata, keyring, local_kms):
    """No statement may set such a column, not even to itself."""
    table = made(
        engine,
        metadata,
        keyring,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("double", Integer, Computed("id * 2", persisted=True)),
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "text": f"{n}"} for n in range(5)])
    local_kms.rotate()

    report = rewrap(engine, metadata)

    assert report.ok
    assert report.counts.rewritten == 5
    assert survey(engine, metadata).ok
    with engine.connect() as connection:
        found = connection.execute(select(table).order_by(table.c.id)).all()
    assert [tuple(row) for row in found] == [(n, 2 * n, f"{n}") for n in range(5)]


KINDS = ("shop", "bank", "app")


def modelled(table, keyring, key):
    """Another model of the table, with another key."""
    metadata = MetaData()
    text: Column[Any] = Column("text", Encrypted(String, bind="column"))
    other = Table(table.name, metadata, key, text)
    attach_keyrings(metadata, default=keyring)
    return metadata, other


@on("mariadb")
@pytest.mark.parametrize("stored", [Enum(*KINDS), mysql.SET(*KINDS)], ids=["enum", "set"])
def test_a_key_that_the_database_orders_by_declaration_is_refused(
    engine, metadata, keyring, stored
):
    """ORDER BY follows the index of the value, and > its text: every second row was left out."""
    table = made(engine, metadata, keyring, Column("kind", stored, primary_key=True))
    as_text, _ = modelled(table, keyring, Column("kind", String(10), primary_key=True))

    for model in (metadata, as_text):
        with pytest.raises(ConfigurationError, match=r"kind: .* VARCHAR"):
            rewrap(engine, model)
        with pytest.raises(ConfigurationError, match=r"kind: .* VARCHAR"):
            survey(engine, model)


@on("postgresql", "sqlite")
def test_an_enum_that_is_ordered_as_it_is_compared_is_served(engine, metadata, keyring, local_kms):
    """PostgreSQL does both by declaration, SQLite both as text."""
    table = made(
        engine, metadata, keyring, Column("kind", Enum(*KINDS, name="kinds"), primary_key=True)
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"kind": kind, "text": kind} for kind in KINDS])
    local_kms.rotate()

    assert rewrap(engine, metadata, batch_size=1).counts.rewritten == 3


@pytest.fixture
def citext(engine):
    """The extension, for as long as it is needed."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS citext")


@on("postgresql")
@pytest.mark.usefixtures("citext")
@pytest.mark.parametrize("stored", ["citext", "kmsenv_mail"])
def test_a_citext_key_is_served_as_citext_alone(engine, metadata, keyring, local_kms, stored):
    """It is ordered without regard to case, and compared with a VARCHAR with it."""
    table = made(engine, metadata, keyring, Column("kind", postgresql.CITEXT, primary_key=True))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP DOMAIN IF EXISTS kmsenv_mail")
        connection.exec_driver_sql("CREATE DOMAIN kmsenv_mail AS citext")
        connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ALTER kind TYPE {stored}')
        given = [{"kind": kind, "text": kind} for kind in ("a", "B", "c", "D", "e", "F")]
        connection.execute(insert(table), given)
    as_text, _ = modelled(table, keyring, Column("kind", String, primary_key=True))
    local_kms.rotate()

    with pytest.raises(ConfigurationError, match=r"kind: .* CITEXT"):
        rewrap(engine, as_text)
    assert rewrap(engine, metadata, batch_size=1).counts.rewritten == 6
    metadata.drop_all(engine)


@pytest.mark.parametrize("declared", [Float, Float(53)])
def test_a_floating_point_key_is_refused(engine, metadata, keyring, declared):
    """MariaDB's FLOAT prints fewer digits than it holds: the page never came to its end."""
    made(engine, metadata, keyring, Column("k", declared, primary_key=True, autoincrement=False))

    with pytest.raises(ConfigurationError, match=r"k: a floating point key .* NUMERIC"):
        rewrap(engine, metadata)


@on("mariadb", "postgresql")
def test_a_floating_point_key_is_refused_whatever_the_model_says(engine, metadata, keyring):
    """The column is what the database orders by."""
    column = Column("k", Float, primary_key=True, autoincrement=False)
    table = made(engine, metadata, keyring, column)
    other, _ = modelled(table, keyring, Column("k", Numeric(10, 2), primary_key=True))

    with pytest.raises(ConfigurationError, match="a floating point key"):
        survey(engine, other)


class Rounded(UserDefinedType[int]):
    """A key that comes back smaller than it is."""

    cache_ok = True

    def get_col_spec(self, **_):
        return "INTEGER"

    def result_processor(self, dialect, coltype):
        return lambda value: value // 10 * 10


class RoundedByTheApplication(TypeDecorator[int]):
    """A key that the database has as it is, and the application sees smaller."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value, dialect):
        return value // 10 * 10


def test_what_an_application_makes_of_a_key_is_nothing_to_a_job(engine, metadata, keyring):
    """It goes by what the database holds, and orders by."""
    key = Column("k", RoundedByTheApplication, primary_key=True, autoincrement=False)
    table = made(engine, metadata, keyring, key)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"k": n, "text": "a"} for n in (1, 11, 12, 13, 21)])

    found = survey(engine, metadata, batch_size=2)

    assert found.columns[0].envelopes == 5


def test_a_job_that_cannot_find_its_place_again_stops(engine, metadata, keyring):
    """It would read the same rows for ever, and call that progress."""
    table = made(
        engine, metadata, keyring, Column("k", Rounded, primary_key=True, autoincrement=False)
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"k": n, "text": "a"} for n in (1, 11, 12, 13, 21)])

    for size in (1, 2, 3):
        with pytest.raises(ConfigurationError, match="again"):
            survey(engine, metadata, batch_size=size)


@on("sqlite")
@pytest.mark.parametrize(
    # Cut in two, the last has its NULL in neither part.
    "keys",
    [[None], [None, "a", "b"], ["a", "b", None, None], [None, "a", "b", "c"]],
)
@pytest.mark.parametrize("columns", ["PRIMARY KEY (k)", "PRIMARY KEY (n, k)"])
def test_null_in_a_primary_key_is_refused(engine, metadata, keyring, keys, columns):
    """SQLite takes it, and finds no row behind it: the job ended there and called itself done."""
    composite = [Column("n", Integer, primary_key=True)] if "n" in columns.split("(")[1] else []
    table = made(engine, metadata, keyring, *composite, Column("k", String, primary_key=True))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {table.name}")
        connection.exec_driver_sql(f"CREATE TABLE {table.name} (k TEXT, n INT, text, {columns})")
        for key in keys:
            statement = f"INSERT INTO {table.name} VALUES (?, 1, NULL)"
            connection.exec_driver_sql(statement, (key,))

    choices: list[dict[str, Any]] = [{}, {"batch_size": 1}, {"workers": 2}]
    choices.append({"workers": 2, "preflight": False})
    for options in choices:
        with pytest.raises(ConfigurationError, match="NULL in its primary key"):
            rewrap(engine, metadata, **options)


@on("mariadb")
@pytest.mark.parametrize("mode", ["", "STRICT_ALL_TABLES"], ids=["lax", "strict"])
@pytest.mark.parametrize("rows", [1, 6], ids=["one by one", "at once"])
@pytest.mark.parametrize("job", [rewrap, reencrypt])
def test_a_value_that_a_column_is_too_short_for_stays_as_it_is(
    engine, metadata, keyring, local_kms, *, tmp_path, job, rows, mode
):
    """Without strict mode the database cuts its end off: a value that nobody can open again."""
    table = made(
        engine, metadata, keyring, Column("id", Integer, primary_key=True, autoincrement=False)
    )
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "text": f"{n}"} for n in range(rows)])
        size = connection.scalar(select(func.length(type_coerce(table.c.text, LargeBinary))))
        connection.exec_driver_sql(f"ALTER TABLE {table.name} MODIFY text VARBINARY({size})")
    # The name of a KMS key in another place may be longer, and so what it wraps.
    new = Longer(LocalKms.create(tmp_path / "new.json", rewraps_from=[local_kms]))
    attach_keyrings(metadata, default=Keyring(new, unwrap_only=[local_kms]))
    event.listen(
        engine,
        "connect",
        lambda connection, _: connection.query(f"SET SESSION sql_mode = '{mode}'"),
    )
    engine.dispose()

    report = job(engine, metadata)

    assert (report.counts.failed, report.counts.rewritten) == (rows, 0)
    assert report.complete
    assert not report.ok
    failure = report.columns[0].failures[0]
    assert failure.error == "UnreachedRowError"
    assert "too short" in failure.message
    with engine.connect() as connection:
        assert len(connection.execute(select(table)).all()) == rows


class Longer:
    """A key service that wraps data keys in more bytes than the other."""

    def __init__(self, kms):
        self._kms = kms
        self.resolve, self.describe = kms.resolve, kms.describe
        self.would_rewrap, self.would_unwrap = kms.would_rewrap, kms.would_unwrap
        self.would_generate = kms.would_generate

    def generate_data_key(self, context):
        """As the other."""
        made = self._kms.generate_data_key(context)
        return replace(made, wrapped=made.wrapped + MORE)

    def rewrap(self, wrapped, context, **more):
        """As the other."""
        made = self._kms.rewrap(wrapped, context, **more)
        return replace(made, wrapped=made.wrapped + MORE)

    def unwrap(self, wrapped, context, **more):
        """As the other."""
        return self._kms.unwrap(wrapped.removesuffix(MORE), context, **more)


MORE = bytes(8)
