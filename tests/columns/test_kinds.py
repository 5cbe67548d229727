"""Every kind of key, and every kind of value, on every database."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Table,
    Time,
    TypeDecorator,
    Uuid,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import (
    Encrypted,
    EnvelopeError,
    InvalidValueError,
    UnboundValueError,
    WrongCellError,
    attach_keyrings,
)
from tests.columns.conftest import stored

UUID_KEY = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
KEYS: dict[str, tuple[Any, list[Any]]] = {
    "int": (Integer(), [1, -5, 2**31 - 1]),
    "str": (String(60), ["a", "ab:cd", "é ü", "", "x" * 60, "%s"]),
    "uuid": (Uuid(), [UUID_KEY, uuid.UUID(int=0)]),
    "text uuid": (Uuid(as_uuid=False), [str(UUID_KEY)]),
    "bytes": (
        LargeBinary(60).with_variant(mysql.VARBINARY(60), "mysql"),
        [b"", b"\xe5\x01", b"a:b\x00"],
    ),
    "date": (Date(), [dt.date(2026, 1, 2), dt.date(1000, 12, 31)]),
}


class Color(enum.Enum):
    RED = 1
    BLUE = "b"
    ALIAS = 1  # noqa: PIE796  an alias is the point


class Celsius(TypeDecorator):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else f"{value['degrees']} C"

    def process_result_value(self, value, dialect):
        return None if value is None else {"degrees": int(value.removesuffix(" C"))}


UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
VALUES: dict[str, tuple[Any, list[Any]]] = {
    "str": (String(), ["", "é\x00\U0001f600", "x" * 70_000]),
    "bytes": (LargeBinary, [b"", b"\xe5\x01\x00", bytes(1 << 20)]),
    "int": (Integer, [0, -1, 127, 128, -128, 2**70, -(2**9000)]),
    "float": (Float, [0.1, -0.0, float("inf"), 1e308, 5]),
    "Decimal": (Numeric(10, 2), [decimal.Decimal("1.50"), decimal.Decimal("-1E+5"), 3, 2.5]),
    "bool": (Boolean, [True, False]),
    "date": (Date, [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "time": (Time, [dt.time(1, 2, 3, 4), dt.time(0, tzinfo=EAST)]),
    "datetime": (DateTime, [dt.datetime(2026, 1, 2, 3, 4, 5, 6), dt.datetime.max]),  # noqa: DTZ001, DTZ901  naive ones go in, too
    "aware": (
        DateTime(timezone=True),
        [dt.datetime(2026, 1, 2, tzinfo=UTC), dt.datetime(2026, 1, 2, tzinfo=EAST)],
    ),
    "timedelta": (Interval, [dt.timedelta(-1, 5, 7), dt.timedelta.max]),
    "UUID": (Uuid, [UUID_KEY]),
    "text UUID": (Uuid(as_uuid=False), [str(UUID_KEY)]),
    "Enum": (Enum(Color), [Color.RED, Color.BLUE, Color.ALIAS]),
    "Enum of text": (Enum("a", "b"), ["a", "b"]),
    "JSON": (JSON, [{"a": [1, None, "é"]}, [], "text", 1.5, False]),
    "TypeDecorator": (Celsius, [{"degrees": -3}]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_named_alike_by_python_and_by_the_database(kind, engine, metadata, keyring):
    """What seals on INSERT and what the SELECT packs must be the same bytes."""
    sqlalchemy_type, keys = KEYS[kind]
    table = Table(
        "kmsenv_keys",
        metadata,
        Column("key", sqlalchemy_type, primary_key=True, autoincrement=False),
        Column("value", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"key": key, "value": repr(key)} for key in keys])
        for key in keys:
            connection.execute(
                update(table).where(table.c.key == key).values(value=repr(key) + "!")
            )
        rows = connection.execute(select(table.c.key, table.c.value)).all()
    assert sorted(value for _, value in rows) == sorted(repr(key) + "!" for key in keys)
    assert all(value == repr(key) + "!" for key, value in rows)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("pad_to", [None, 64])
def test_what_goes_in_comes_back_equal_and_of_the_same_type(
    kind, pad_to, engine, metadata, keyring
):
    """The inner type's Python values survive the journey, whatever the database."""
    inner, values = VALUES[kind]
    table = Table(
        "kmsenv_values",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", Encrypted(inner, pad_to=pad_to)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": i, "value": value} for i, value in enumerate([*values, None])]
        connection.execute(insert(table), rows)
        back = connection.scalars(select(table.c.value).order_by(table.c.id)).all()
        if pad_to:
            sizes = {
                len(stored(connection, table.c.value, table.c.id == i)) % pad_to
                for i in range(len(values))
            }
            assert len(sizes) == 1
    assert back == [*values, None]
    assert [type(value) for value in back] == [type(value) for value in [*values, None]]


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        (String, 5), (String, Color.RED), (Integer, "5"), (Integer, True), (Boolean, 1),
        (Date, dt.datetime(2026, 1, 1, tzinfo=UTC)), (LargeBinary, "text"), (Enum(Color), "GREEN"),
        (JSON, {1, 2}), (JSON, float("nan")), (Uuid, "x"), (String, "\ud800"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_before_it_is_sent(inner, value, keyring):
    """It would come back as something else, or not at all."""
    from sqlalchemy import MetaData, create_engine

    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", Integer, primary_key=True), Column("value", Encrypted(inner))
    )
    attach_keyrings(metadata, default=keyring)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection, pytest.raises(InvalidValueError):
        connection.execute(insert(table), {"id": 1, "value": value})


def test_a_key_in_another_spelling_leaves_the_row_readable(engine, metadata, keyring):
    """MySQL's collations ignore case: the row keeps its own spelling."""
    table = Table(
        "kmsenv_spelling",
        metadata,
        Column("code", String(20), primary_key=True),
        Column("value", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"code": "abc", "value": "old"})
        result = connection.execute(update(table).where(table.c.code == "ABC").values(value="new"))
        expected = "new" if result.rowcount else "old"
        assert connection.scalars(select(table.c.value)).all() == [expected]
    assert (expected == "new") == (engine.dialect.name == "mysql")


@pytest.mark.parametrize("key", [True, "1", 1.0, None])
def test_a_key_of_another_type_is_refused(key, session, models):
    """It may be stored as something else than what the value is sealed for."""
    with pytest.raises(UnboundValueError):
        session.connection().execute(insert(models.table), {"id": key, "note": "n"})


def test_columns_bound_to_no_row_take_an_update_of_many(engine, metadata, keyring):
    """bind="column" trades row binding for UPDATE without a key; the column stays bound."""
    table = Table(
        "kmsenv_unbound",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", Encrypted(String, bind="column")),
        Column("other", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": i, "value": f"v{i}"} for i in range(3)])
        connection.execute(update(table).where(table.c.id > 0).values(value="all"))
        assert connection.scalars(select(table.c.value).order_by(table.c.id)).all() == [
            "v0", "all", "all",
        ]  # fmt: skip
        connection.exec_driver_sql("UPDATE kmsenv_unbound SET other = value")
        with pytest.raises(WrongCellError):
            connection.scalars(select(table.c.other)).all()


def test_an_identity_other_than_the_key_binds_and_is_found_for_an_update(engine, metadata, keyring):
    """identity=[...] names the row where the primary key shall not."""
    table = Table(
        "kmsenv_identity",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("serial", String(20), nullable=False, unique=True),
        Column("value", Encrypted(String, identity=["serial"])),
        Column("own", Encrypted(String, scope="row")),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": i, "serial": f"s{i}", "value": "v", "own": f"o{i}"} for i in range(3)]
        connection.execute(insert(table), rows)
        connection.execute(update(table).where(table.c.id == 1).values(value="new", own="mine"))
        connection.execute(update(table).where(table.c.serial == "s2").values(value="other"))
        query = select(table.c.value, table.c.own).order_by(table.c.id)
        assert connection.execute(query).all() == [("v", "o0"), ("new", "mine"), ("other", "o2")]


def test_a_changed_type_is_an_error_not_garbage(engine, metadata, keyring):
    """An Enum member that is gone cannot be read as anything."""
    from sqlalchemy import MetaData

    def table_of(metadata, inner):
        return Table(
            "kmsenv_changed",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("value", Encrypted(inner)),
        )

    table = table_of(metadata, Enum("gone", "kept"))
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    changed = MetaData()
    attach_keyrings(changed, default=keyring)
    narrower = table_of(changed, Enum(Color))
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "value": "gone"})
        with pytest.raises(EnvelopeError, match="Enum"):
            connection.scalars(select(narrower.c.value)).all()
