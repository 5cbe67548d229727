"""What the commands of these tests are about; imported by them, in processes of their own too."""

from __future__ import annotations

import os

from sqlalchemy import JSON, Column, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings

KEYS_VARIABLE = "KMSENV_TEST_CLI_KEYS"


class Base(DeclarativeBase):
    pass


class Ping(Base):
    __tablename__ = "cli_pings"

    tenant: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[dict] = mapped_column(Encrypted(JSON, scope=["tenant"]))
    note: Mapped[str | None] = mapped_column(Encrypted(String))


def with_keyring() -> type[Base]:
    """The base, with the keyring that the environment names."""
    attach_keyrings(Base.metadata, Keyring(os.environ[KEYS_VARIABLE]))
    return Base


def broken() -> MetaData:
    """What an application does whose settings are missing."""
    raise KeyError("LOCATION_KEY")


def unset() -> MetaData:
    """The same, as Python says it."""
    os.environ["LOCATION_KEY_UNSET"]
    raise AssertionError


class Other(DeclarativeBase):
    """Columns of two keyrings."""


class Bill(Other):
    __tablename__ = "cli_bills"

    id: Mapped[int] = mapped_column(primary_key=True)
    iban: Mapped[str] = mapped_column(Encrypted(String, keyring="billing"))
    memo: Mapped[str] = mapped_column(Encrypted(String))


class Abroad(DeclarativeBase):
    """Names that Latin-1 has no letters for."""


class Payment(Abroad):
    __tablename__ = "платежи"

    id: Mapped[int] = mapped_column(primary_key=True)
    memo: Mapped[str] = mapped_column("заметка", Encrypted(String))


NOTHING = MetaData()
PLAIN = MetaData()
Table("cli_plain", PLAIN, Column("id", Integer, primary_key=True), Column("raw", LargeBinary))
NUMBER = 7
