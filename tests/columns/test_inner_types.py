"""What an inner type is on each database, and after it changed."""

import datetime as dt
import enum
import json
import pickle
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import (
    BINARY,
    CHAR,
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    create_engine,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql

from sqlalchemy_kmsenv import (
    Encrypted,
    EnvelopeError,
    InvalidValueError,
    attach_keyrings,
    explain,
    seal_cells,
)
from sqlalchemy_kmsenv.rewrap import verify
from tests.columns.test_key_types import UUIDS, Guid

UTC = dt.UTC


class AnyJson(TypeDecorator):
    """JSONB where there is one, text that it writes itself elsewhere."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.JSONB() if native else Text())

    def process_bind_param(self, value, dialect):
        return value if value is None or dialect.name == "postgresql" else json.dumps(value)

    def process_result_value(self, value, dialect):
        return value if value is None or dialect.name == "postgresql" else json.loads(value)


class Wrapped(TypeDecorator):
    """A decorator around a decorator, each with a say of its own."""

    impl = AnyJson
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else {"wrapped": value}

    def process_result_value(self, value, dialect):
        return None if value is None else value["wrapped"]


class Blood(enum.Enum):
    A_POSITIVE = "A+"
    ZERO_NEGATIVE = "0-"


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Member(NamedTuple):
    name: str


ONE, TWO = Member("one"), Member("two")
# What SQLAlchemy takes for an Enum: anything with ``__members__``.
MEMBERS: Any = SimpleNamespace(__name__="Members", __members__={"one": ONE, "two": TWO})


def table_of(metadata, keyring, inner):
    """A table with one encrypted column."""
    table = Table(
        "kmsenv_inner",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("v", Encrypted(inner)),
    )
    attach_keyrings(metadata, default=keyring)
    return table


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        (AnyJson(), {"a": [1, None]}),
        (Wrapped(), [1, 2]),
        (Text().with_variant(JSON(), "postgresql"), "text"),
        (Guid(CHAR(32), lambda value: value.hex), UUIDS[1]),
        (Guid(BINARY(16), lambda value: value.bytes), UUIDS[1]),
        (PickleType(), {"a": {1, 2}, "b": dt.date(2026, 1, 1)}),
        (PickleType(pickler=pickle, protocol=2), ["x"]),
        (String(), Colour.RED),
        (Integer(), Size.SMALL),
        (Enum(MEMBERS, name="kmsenv_members"), TWO),
        (Enum(Colour, name="kmsenv_colours"), "red"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_the_type_on_this_database_says(
    inner, value, *, engine, metadata, keyring
):
    """An application with two databases gets the same values from both."""
    table = table_of(metadata, keyring, inner)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "v": value}, {"id": 2, "v": None}])
        found = connection.scalars(select(table.c.v).order_by(table.c.id)).all()

    assert found == [value, None]
    assert verify(engine, metadata).ok


TYPES: dict[str, tuple[Any, Any]] = {
    "str": (String(), "12"),
    "int": (Integer(), 12),
    "number": (Numeric(), Decimal(12)),
    "float": (Float(), 1.5),
    "bool": (Boolean(), True),
    "bytes": (LargeBinary(), b"12"),
    "date": (Date(), dt.date(2026, 1, 1)),
    "datetime": (DateTime(), dt.datetime(2026, 1, 1, 5, tzinfo=UTC)),
    "time": (Time(), dt.time(5)),
    "json": (JSON(), "12"),
    "uuid": (Uuid(as_uuid=False), "12345678-9abc-4def-8123-456789abcdef"),
    "enum": (Enum("12", "13"), "12"),
}
ALIKE = {
    ("int", "number"), ("int", "float"), ("number", "float"), ("float", "number"),
    ("str", "uuid"), ("uuid", "str"), ("str", "enum"), ("enum", "str"), ("enum", "uuid"),
}  # fmt: skip


@pytest.mark.parametrize("new", TYPES)
@pytest.mark.parametrize("old", TYPES)
def test_a_value_of_a_former_type_is_an_error_with_words(old, new, keyring):
    """Neither the application nor ``verify`` takes a text for a number."""
    engine = create_engine("sqlite://")
    was = table_of(MetaData(), keyring, TYPES[old][0])
    was.metadata.create_all(engine)
    now = table_of(MetaData(), keyring, TYPES[new][0])
    with engine.connect() as connection:
        connection.execute(insert(was), {"id": 1, "v": TYPES[old][1]})
        connection.commit()
        read = connection.scalars(select(now.c.v))
        if old == new or (old, new) in ALIKE:
            assert read.all() == [TYPES[old][1]]
        elif (old, new) == ("uuid", "enum"):
            with pytest.raises(EnvelopeError, match="members of its Enum"):
                read.all()
        else:
            with pytest.raises(EnvelopeError, match="its type changed") as caught:
                read.all()
            assert "kmsenv_inner.v" in str(caught.value)
            assert not verify(engine, now.metadata).ok


@pytest.mark.parametrize(
    ("inner", "value", "words"),
    [
        (Enum(Blood), "A+", "it takes a member of Blood or its name (A_POSITIVE, ZERO_NEGATIVE)"),
        (Enum(Blood), Colour.RED, "test_inner_types.Colour that was given"),
        (
            Enum("red", "blue"),
            5,
            "type int that was given; it takes a member of Enum or its name (red",
        ),
        (JSON(), dt.date(2026, 1, 1), "json_serializer"),
        (JSON(), object(), "what JSON can represent, at most 100 levels deep"),
        (AnyJson(), {1, 2}, "what AnyJson makes str of"),
    ],
)
def test_a_refusal_says_what_the_column_takes(inner, value, words, keyring):
    """The names of an Enum are in the model and no secret; the value is."""
    table = table_of(MetaData(), keyring, inner)
    with pytest.raises(InvalidValueError) as caught:
        seal_cells(table.c.v, [value], [{"id": 1}])
    assert words in str(caught.value)
    assert "'A+'" not in str(caught.value)


def test_a_value_of_numpy_is_named_as_such(keyring):
    """Numpy has a ``bool`` and a ``str_`` of its own, and says how to leave it."""
    scalar = type("bool", (), {"__module__": "numpy", "__qualname__": "bool"})()
    table = table_of(MetaData(), keyring, Boolean())
    with pytest.raises(InvalidValueError, match=r"numpy\.bool that .* takes bool; call its item"):
        seal_cells(table.c.v, [scalar], [{"id": 1}])


@pytest.mark.parametrize("as_bytes", [False, True])
def test_json_goes_through_what_the_engine_was_given(as_bytes, keyring):
    """As it does in a plain column of the same engine."""

    def dumps(value):
        text = json.dumps(value, default=lambda each: {"$": each.isoformat()})
        return text.encode() if as_bytes else text

    def loads(text):
        return json.loads(
            text, object_hook=lambda d: dt.date.fromisoformat(d["$"]) if "$" in d else d
        )

    engine = create_engine("sqlite://", json_serializer=dumps, json_deserializer=loads)
    table = table_of(MetaData(), keyring, JSON())
    table.metadata.create_all(engine)
    value = {"at": dt.date(2026, 1, 1), "deep": [1.5]}
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "v": value})
        assert connection.scalar(select(table.c.v)) == value
        deep: Any = 1
        for _ in range(101):
            deep = [deep]
        with pytest.raises(InvalidValueError, match="100 levels deep"):
            connection.execute(insert(table), {"id": 2, "v": deep})


def test_a_serializer_that_writes_no_json_is_refused(keyring):
    """NaN would be read by some readers and not by others."""
    engine = create_engine("sqlite://", json_serializer=lambda _: "[NaN]")
    table = table_of(MetaData(), keyring, JSON())
    table.metadata.create_all(engine)
    with engine.begin() as connection, pytest.raises(InvalidValueError, match="json_serializer"):
        connection.execute(insert(table), {"id": 1, "v": [1]})


def test_explain_takes_a_value_for_what_it_is_on_any_database(keyring):
    """Nobody says there which database a value is from."""
    table = table_of(MetaData(), keyring, AnyJson())
    for dialect in (create_engine("sqlite://").dialect, postgresql.dialect()):
        (sealed,) = seal_cells(table.c.v, [{"a": 1}], [{"id": 1}], dialect=dialect)
        assert sealed is not None
        assert explain(table.c.v, sealed, {"id": 1}).finding.value == "opens"
