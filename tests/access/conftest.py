"""Models with every kind of encryption context, and a KMS that evaluates policies."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from sqlalchemy import JSON, Integer, String
from sqlalchemy.orm import DeclarativeBase, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.testing import KmsServer
from sqlalchemy_kmsenv.testing.clients import aws_kms


def make_models():
    """Two tables: a column, two with a scope, and one whose scope is the row."""

    class Base(DeclarativeBase):
        pass

    class Ping(Base):
        __tablename__ = "kmsenv_access_pings"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        device_id = mapped_column(String(40), nullable=False)
        position = mapped_column(Encrypted(JSON, scope=["device_id"]))
        battery = mapped_column(Encrypted(Integer, scope=["device_id"]))
        note = mapped_column(Encrypted(String))

    class Person(Base):
        __tablename__ = "kmsenv_access_people"
        id = mapped_column(Integer, primary_key=True, autoincrement=False)
        name = mapped_column(Encrypted(String, scope="row"))

    tables = Base.metadata.tables.values()
    bindings = [b for table in tables for b in encrypted_columns(table).values()]
    return SimpleNamespace(Base=Base, Ping=Ping, Person=Person, bindings=bindings)


@pytest.fixture(scope="module")
def server() -> Iterator[KmsServer]:
    """A KMS over HTTP."""
    with KmsServer() as server:
        yield server


@pytest.fixture
def models(server):
    """The models, with a keyring that has pairs of its own; nobody uses its key here."""
    models = make_models()
    models.key = server.create_key()
    models.kms = aws_kms(server, models.key.arn)
    attach_keyrings(models.Base.metadata, default=keyring_of(models.kms))
    return models


def keyring_of(kms, **options):
    """A keyring with pairs of its own."""
    return Keyring(kms, context={"app": "maps", "env": "prod"}, **options)
