"""Definitions that make the database read an encrypted column."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    column,
    create_engine,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, attach_keyrings

TEXTS = [
    "length(iban) > 0",
    'length("iban") = 22',
    "IBAN LIKE 'DE%'",
    "(iban->>'country')",
    "payees.iban <> ''",
    "iban IS NOT NULL AND iban <> ''",
    "other = 'a' OR iban IN ('a')",
]
HARMLESS = [
    "iban IS NOT NULL",
    "(iban IS NULL) = (other IS NULL)",
    "other <> 'iban'",
    "iban_2 > 0 AND my_iban > 0",
    "iban(other) > 0",
    "CAST(other AS iban) = other::iban",
]


def payees(*items, other=None, **options):
    """A table with an encrypted column, and whatever else is declared."""
    return Table(
        "payees",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("iban", Encrypted(String)),
        other if other is not None else Column("other", String(40)),
        *items,
        **options,
    )


USES = {
    "CHECK of the table": lambda sql: payees(CheckConstraint(sql)),
    "CHECK of another column": lambda sql: payees(
        other=Column("other", String(40), CheckConstraint(sql))
    ),
    "index": lambda sql: payees(Index("ix", text(sql))),
    "unique index": lambda sql: payees(Index("ix", text(sql), unique=True)),
    "partial index": lambda sql: payees(Index("ix", "other", sqlite_where=text(sql))),
    "partial index of PostgreSQL": lambda sql: payees(
        Index("ix", "other", postgresql_where=text(sql))
    ),
    "literal column in an index": lambda sql: payees(Index("ix", "other", literal_column(sql))),
    "function of a literal column": lambda sql: payees(
        Index("ix", func.lower(literal_column(sql)))
    ),
    "exclusion": lambda sql: payees(ExcludeConstraint((text(sql), "="))),
    "computed column": lambda sql: payees(other=Column("other", String(40), Computed(sql))),
    "partitions": lambda sql: payees(postgresql_partition_by=sql),
}


@pytest.mark.parametrize(("use", "sql"), list(itertools.product(USES, TEXTS)))
def test_text_that_reads_an_encrypted_column_is_refused(use, sql):
    """SQLite and MariaDB would fail at an INSERT, far away; PostgreSQL would find nothing."""
    with pytest.raises(ConfigurationError, match=r"payees\.iban is encrypted, and .* reads it"):
        USES[use](sql)


@pytest.mark.parametrize(("use", "sql"), list(itertools.product(USES, HARMLESS)))
def test_text_that_does_not_read_it_passes(use, sql):
    """NULL stays NULL, and a function, a type, a string or a longer name is another thing."""
    USES[use](sql)


def test_expressions_are_looked_through():
    """Also those that are written with columns."""
    for declare in (
        lambda t: Index("ix", func.lower(t.c.iban)),
        lambda t: Index("ix", t.c.other, t.c.iban),
        lambda t: Index("ix", t.c.other, postgresql_where=func.length(t.c.iban) > 2),
        lambda t: t.append_constraint(CheckConstraint(func.length(t.c.iban) > 2)),
        lambda t: t.append_constraint(UniqueConstraint(t.c.other, t.c.iban)),
        lambda t: t.append_constraint(ExcludeConstraint((t.c.iban, "="))),
        lambda t: t.append_constraint(
            ExcludeConstraint((t.c.other, "="), where=text("iban <> ''"))
        ),
    ):
        table = payees()
        declare(table)
        # A table that is complete is looked at again before it is made.
        with pytest.raises(ConfigurationError, match=r"payees\.iban is encrypted"):
            table.dispatch.before_create(table, None)


def test_column_that_is_only_named_is_found_by_its_name():
    """``sa.column()`` belongs to no table before the index does."""
    with pytest.raises(ConfigurationError, match=r"payees\.iban is encrypted, and the index"):
        payees(Index("ix", "other", func.lower(column("iban"))))
    payees(Index("ix", "other", func.lower(column("other"))))


def test_foreign_key_that_comes_late_is_refused_like_an_early_one(keyring):
    """Whatever was looked at before: the database would take the row away from its values."""
    metadata = MetaData()
    Table("banks", metadata, Column("code", String(9), primary_key=True))
    table = Table(
        "accounts", metadata, Column("bank", String(9), primary_key=True),
        Column("note", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    with create_engine("sqlite://").connect() as connection:
        metadata.create_all(connection)
        connection.execute(insert(table), {"bank": "a", "note": "x"})
        table.append_constraint(ForeignKeyConstraint(["bank"], ["banks.code"], onupdate="CASCADE"))
        with pytest.raises(ConfigurationError, match="ON UPDATE CASCADE"):
            connection.execute(insert(table), {"bank": "b", "note": "x"})


def test_null_may_be_asked_for_in_an_expression(engine, metadata, keyring):
    """A CHECK that one of two is given is of use, and works: NULL is stored as NULL."""
    table = Table(
        "kmsenv_payees",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("iban", Encrypted(String)),
        Column("cash", Integer),
    )
    given = table.c.iban.is_not(None) | table.c.cash.is_not(None)
    table.append_constraint(CheckConstraint(given, name="paid_somehow"))
    attach_keyrings(metadata, keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "iban": "DE1"}])

        assert connection.scalars(select(table.c.iban)).all() == ["DE1"]
