"""Keys and scopes of types that an application made, and of DateTime and Enum."""

import datetime as dt
import enum
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    BINARY,
    CHAR,
    JSON,
    Boolean,
    Column,
    DateTime,
    Enum,
    Integer,
    String,
    Table,
    TypeDecorator,
    Uuid,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import Session, registry

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    UnboundValueError,
    WrongCellError,
    attach_keyrings,
    open_cells,
    seal_cells,
)
from tests.columns.conftest import stored
from tests.conftest import on

UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
UUIDS = [uuid.UUID(int=7), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")]


class Guid(TypeDecorator):
    """The recipe of SQLAlchemy's manual and of its relatives: native, else in one of these."""

    impl = CHAR
    cache_ok = True

    def __init__(self, elsewhere: Any, spelling: Any, native: bool = True) -> None:
        super().__init__()
        self.elsewhere, self.spelling, self.native = elsewhere, spelling, native

    def load_dialect_impl(self, dialect):
        native = self.native and dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.UUID() if native else self.elsewhere)

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        value = value if isinstance(value, uuid.UUID) else uuid.UUID(value)
        native = self.native and dialect.name == "postgresql"
        return str(value) if native else self.spelling(value)

    def process_result_value(self, value, dialect):
        if value is None or isinstance(value, uuid.UUID):
            return value
        return uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value)


class Lower(TypeDecorator):
    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.lower()


class Doubled(TypeDecorator):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else 2 * value

    def process_result_value(self, value, dialect):
        return None if value is None else value // 2


class Utc(TypeDecorator):
    """Aware in the application, and without a zone in the database."""

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value, dialect):
        return None if value is None else value.replace(tzinfo=UTC)


class State(enum.Enum):
    ON = 1
    OFF = "off"


class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high:1"


def precise(**options: Any) -> Any:
    """DateTime to the microsecond, also where that is not usual."""
    return DateTime(**options).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def names(kind: Any) -> list[str]:
    """What the database holds for the members: their values."""
    return [each.value for each in kind]


AWARE = [
    dt.datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=UTC),
    dt.datetime(2026, 3, 29, 2, 30, tzinfo=UTC),
    dt.datetime(1000, 1, 1, tzinfo=UTC),
]
NAIVE = [value.replace(tzinfo=None) for value in AWARE]
OF_STATE = [State.ON, State.OFF]
KEYS: dict[str, tuple[Any, list[Any]]] = {
    "guid of digits": (Guid(CHAR(32), lambda value: value.hex), UUIDS),
    "guid of hyphens": (Guid(CHAR(36), str), UUIDS),
    "guid of bytes": (Guid(BINARY(16), lambda value: value.bytes), UUIDS),
    "guid, text everywhere": (Guid(String(36), str, native=False), UUIDS),
    "text of the application": (Lower(), ["a", "b:c", "\u00e9"]),
    "number of the application": (Doubled(), [0, -3, 9]),
    "time of the application": (Utc(), AWARE),
    "date and time": (precise(), NAIVE),
    "aware": (precise(timezone=True), AWARE),
    "enum": (Enum(State, name="kmsenv_state"), OF_STATE),
    "enum in text": (Enum(State, native_enum=False, length=9), OF_STATE),
    "enum by value": (
        Enum(Level, name="kmsenv_level", values_callable=names),
        [Level.LOW, Level.HIGH],
    ),
    "enum of names": (Enum("red", "blue", name="kmsenv_colour"), ["red", "blue"]),
}  # fmt: skip


@pytest.fixture
def table(kind, engine, metadata, keyring):
    """A table keyed and scoped by columns of a kind, on each database."""
    sqlalchemy_type, _ = KEYS[kind]
    table = Table(
        "kmsenv_typed",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("key", sqlalchemy_type, primary_key=True, autoincrement=False),
        Column("tenant", sqlalchemy_type, nullable=False),
        Column("v", Encrypted(String)),
        Column("w", Encrypted(JSON, scope=["tenant"])),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


def rows_of(keys):
    """One row a key, with values that name it."""
    return [
        {"id": 1, "key": key, "tenant": keys[0], "v": repr(key), "w": [repr(key)]} for key in keys
    ]


@pytest.mark.parametrize("kind", KEYS)
def test_a_row_is_named_alike_by_core_and_by_the_database(kind, table, engine):
    """Whatever type the application put around the column, what is stored counts."""
    keys = KEYS[kind][1]
    with engine.begin() as connection:
        connection.execute(insert(table), rows_of(keys))
        for key in keys:
            done = connection.execute(
                update(table)
                .where(table.c.id == 1, table.c.key == key)
                .values(v=repr(key) + "!", w=[])
            )
            assert done.rowcount == 1
        found = connection.execute(select(table.c.v, table.c.w)).all()

    assert sorted(v for v, _ in found) == sorted(repr(key) + "!" for key in keys)
    assert all(w == [] for _, w in found)


@pytest.mark.parametrize("kind", KEYS)
def test_a_flush_writes_what_a_new_session_reads(kind, table, engine):
    """Also after the key and the scope came back from the database, without what it drops."""
    typed_class: Any = type("Typed", (), {})
    registry().map_imperatively(typed_class, table)
    keys = KEYS[kind][1]
    with Session(engine) as session:
        session.add_all([typed_class(**row) for row in rows_of(keys)])
        session.commit()
    with Session(engine) as session:
        for typed in session.scalars(select(typed_class)):
            typed.v += "!"
            typed.w = ["again"]
        session.commit()
    with Session(engine) as session:
        for key in keys:
            typed = session.get_one(typed_class, (1, key))
            assert (typed.v, typed.w) == (repr(key) + "!", ["again"])
        typed.tenant = keys[1]
        session.commit()
        assert session.get_one(typed_class, (1, keys[-1]), populate_existing=True).w == ["again"]


@pytest.mark.parametrize("kind", KEYS)
def test_a_value_of_another_row_does_not_open(kind, table, engine):
    """Neither with this key's other values, nor by whoever seals by hand for another row."""
    keys = KEYS[kind][1]
    with engine.begin() as connection:
        connection.execute(insert(table), rows_of(keys))
        first = stored(connection, table.c.v, table.c.key == keys[0])
        connection.exec_driver_sql(f"UPDATE kmsenv_typed SET v = {marker(engine)}", (first,))
        opened, other = select(table.c.v).where(table.c.key == keys[0]), table.c.key == keys[1]
        assert connection.scalars(opened).all() == [repr(keys[0])]
        with pytest.raises(WrongCellError):
            connection.scalars(select(table.c.v).where(other)).all()
    named = [{"id": 1, "key": keys[0]}]
    assert open_cells(table.c.v, [first], named, dialect=engine.dialect) == [repr(keys[0])]
    (sealed,) = seal_cells(table.c.v, ["by hand"], named, dialect=engine.dialect)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE kmsenv_typed SET v = {marker(engine)}", (sealed,))
        assert connection.scalars(opened).all() == ["by hand"]


def marker(engine):
    """How the driver writes a parameter."""
    return "?" if engine.dialect.paramstyle == "qmark" else "%s"


@pytest.mark.parametrize(
    ("kind", "refused", "words"),
    [
        (DateTime(), dt.datetime(2026, 1, 1, tzinfo=UTC), "no time zone"),
        (Enum(State, name="kmsenv_state"), "UNKNOWN", "cannot name a row"),
        (Guid(CHAR(32), lambda value: value.hex), "no uuid", "cannot name a row"),
        (Guid(CHAR(36), lambda value: str(value).upper()), UUIDS[1], "hexadecimal digits"),
    ],
)
@on("sqlite")
def test_a_value_that_would_be_stored_as_another_is_refused(
    kind, refused, words, *, engine, metadata, keyring
):
    """Before anything is sent."""
    table = Table(
        "t", metadata, Column("key", kind, primary_key=True), Column("v", Encrypted(String))
    )
    attach_keyrings(metadata, default=keyring)
    metadata.create_all(engine)
    with engine.begin() as connection, pytest.raises(UnboundValueError, match=words):
        connection.execute(insert(table), {"key": refused, "v": "x"})


@pytest.mark.parametrize(
    ("value", "databases"),
    [
        (dt.datetime(2026, 1, 1, tzinfo=EAST), ("sqlite", "mariadb")),
        (dt.datetime(2026, 1, 1), ("postgresql",)),  # noqa: DTZ001
        (dt.datetime(2026, 1, 1, microsecond=1, tzinfo=UTC), ("mariadb",)),
    ],
)
def test_a_time_is_bound_as_it_is_stored_or_refused(
    value, databases, *, engine, database, metadata, keyring
):
    """MariaDB and SQLite drop time zones, and MariaDB what is finer than its column."""
    table = Table(
        "kmsenv_times",
        metadata,
        Column("at", DateTime(timezone=True), primary_key=True),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        if database in databases:
            with pytest.raises(UnboundValueError, match=r"kmsenv_times\.at cannot name a row: it"):
                connection.execute(insert(table), {"at": value, "v": "x"})
        else:
            connection.execute(insert(table), {"at": value, "v": "x"})
            assert connection.scalars(select(table.c.v)).all() == ["x"]


class Hooked(TypeDecorator):
    impl = String
    cache_ok = True

    def bind_expression(self, bindvalue):
        return bindvalue


@pytest.mark.parametrize(
    "kind",
    [
        Hooked(),
        Uuid().with_variant(String(36), "mysql"),
        DateTime().with_variant(DateTime(timezone=True), "sqlite"),
        DateTime().with_variant(String(30), "postgresql"),
    ],
)
def test_a_key_that_databases_hold_as_different_values_is_refused(kind, metadata):
    """What a value is bound to must be known where it is sealed, and be one thing."""
    with pytest.raises(ConfigurationError, match="of one kind on every database"):
        Table("t", metadata, Column("key", kind, primary_key=True), Column("v", Encrypted(String)))


def test_scope_of_another_kind_is_not_told_to_name_an_identity(metadata):
    """What is advised has to be about the column that is refused."""
    with pytest.raises(ConfigurationError, match="Name other columns as scope, or none") as told:
        Table(
            "t", metadata, Column("id", Integer, primary_key=True),
            Column("paid", Boolean, nullable=False), Column("v", Encrypted(String, scope=["paid"])),
        )  # fmt: skip
    assert "identity=" not in str(told.value)


def test_object_with_a_char_key_that_came_back_padded_is_written(engine, metadata, keyring):
    """PostgreSQL returns 'k1' filled up with blanks, and the next flush gives it like that."""
    table = Table(
        "kmsenv_char_key", metadata, Column("code", CHAR(6), primary_key=True),
        Column("v", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    mapped: Any = type("Coded", (), {})
    registry().map_imperatively(mapped, table)
    with Session(engine) as session:
        session.execute(insert(mapped), [{"code": "k1", "v": "a"}, {"code": "k2", "v": "a"}])
        first, second = session.scalars(select(mapped).order_by(table.c.code)).all()
        first.v = "flushed"
        session.flush()
        session.execute(update(table).where(table.c.code == second.code).values(v="core"))
        session.commit()
    with Session(engine) as session:
        opened = session.scalars(select(table.c.v).order_by(table.c.code)).all()
        assert opened == ["flushed", "core"]
        if engine.dialect.name != "sqlite":
            with pytest.raises(UnboundValueError, match="give it without"):
                session.execute(insert(table), {"code": "k3 ", "v": "x"})
