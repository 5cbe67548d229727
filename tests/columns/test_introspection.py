"""What packages see that look at the type of an encrypted column."""

from __future__ import annotations

import asyncio
import copy
import enum
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.schema import CreateTable

from sqlalchemy_kmsenv import Encrypted

PAGE = Path(__file__).parents[2] / "docs" / "reading.md"


class Color(enum.Enum):
    """Two of them."""

    red = 1
    blue = 2


def test_impl_is_the_inner_type():
    """Forms, schemas and admin pages are made from it."""
    assert isinstance(Encrypted(JSON).impl, JSON)
    assert Encrypted(String(11)).impl.length == Encrypted(String(11)).length == 11
    assert Encrypted(Enum(Color)).enum_class is Color
    assert Encrypted(Integer).length is None
    assert not hasattr(Encrypted(Integer), "enums")


def unpickled(kind):
    """Through bytes and back."""
    return pickle.loads(pickle.dumps(kind))  # noqa: S301  its own


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, unpickled])
def test_a_copy_shows_the_same(again):
    """Mixins copy types, and processes that work for others unpickle them."""
    twin = again(Encrypted(String(11)))
    assert twin.impl.length == twin.length == 11


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect(), mysql.dialect()])
def test_no_schema_event_of_the_inner_type_happens(dialect):
    """An Enum would make a type of PostgreSQL's, and a CHECK over envelopes, as Boolean does."""
    table = Table(
        "t", MetaData(), Column("id", Integer, primary_key=True),
        Column("color", Encrypted(Enum(Color, create_constraint=True))),
        Column("flag", Encrypted(Boolean(create_constraint=True))),
        Column("extra", Encrypted(JSON)),
    )  # fmt: skip
    made = str(CreateTable(table).compile(dialect=dialect))
    blob = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "LONGBLOB"}[dialect.name]
    assert made.count(f" {blob}") == 3
    assert "CHECK" not in made
    assert len(table.constraints) == 1


def test_marshmallow_makes_fields_of_the_inner_types():
    """An API would answer with the repr of a document."""
    marshmallow = pytest.importorskip("marshmallow_sqlalchemy")

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id = mapped_column(Integer, primary_key=True)
        ssn = mapped_column(Encrypted(String(11)))
        extra = mapped_column(Encrypted(JSON))
        color = mapped_column(Encrypted(Enum(Color)))

    Meta = type("Meta", (), {"model": User})
    Schema: Any = type("Schema", (marshmallow.SQLAlchemyAutoSchema,), {"Meta": Meta})
    fields = {name: type(field).__name__ for name, field in Schema().fields.items()}
    assert fields == {"id": "Integer", "ssn": "String", "extra": "Raw", "color": "Enum"}
    assert set(Schema().validate({"ssn": "longer than eleven"}, session=object())) == {"ssn"}


def recipe(first_line: str) -> str:
    """The block of the page that begins so."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(first_line)]
    return str(found)


@pytest.fixture
def guest():
    """A model with a text, a number and a document."""

    class Base(DeclarativeBase):
        pass

    class Guest(Base):
        __tablename__ = "guests"
        id = mapped_column(Integer, primary_key=True)
        passport = mapped_column(Encrypted(String(20)))
        visits = mapped_column(Encrypted(Integer))
        wishes = mapped_column(Encrypted(JSON))

    return Guest


FIELDS = {"passport": "StringField", "visits": "IntegerField", "wishes": "JSONField"}


def test_the_recipe_for_flask_admin_makes_fields_of_the_inner_types(guest):
    """Without it, encrypted columns are left out of the form."""
    pytest.importorskip("flask_admin")
    flask = pytest.importorskip("flask")
    orm = pytest.importorskip("flask_sqlalchemy")
    names: dict[str, Any] = {"Column": Column}
    exec(recipe("from flask_admin"), names)  # noqa: S102  the project's own text
    app = flask.Flask("recipe")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SECRET_KEY="recipe")
    view = names["GuestView"](guest, orm.SQLAlchemy(app))
    pytest.importorskip("flask_admin").Admin(app).add_view(view)
    with app.test_request_context():
        form = view.create_form()
        assert {name: type(field).__name__ for name, field in form._fields.items()} == FIELDS


def test_the_recipe_for_sqladmin_makes_fields_of_the_inner_types(guest):
    """Without it, numbers and documents are edited as text."""
    sqladmin = pytest.importorskip("sqladmin")
    starlette = pytest.importorskip("starlette.applications")
    names: dict[str, Any] = {"Guest": guest, "__name__": "recipe"}
    exec(recipe("from sqladmin"), names)  # noqa: S102  the project's own text
    admin = sqladmin.Admin(starlette.Starlette(), create_engine("sqlite://"))
    admin.add_view(names["GuestAdmin"])
    form = asyncio.run(admin.views[0].scaffold_form())
    made = {name: getattr(form, name).field_class.__name__ for name in FIELDS}
    assert made == FIELDS
