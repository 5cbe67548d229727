"""Names that need quotes or escapes, in every statement that this library builds itself."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table, bindparam, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, registry

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.rewrap import reencrypt, rewrap, survey, verify

NAMES = [
    "per%cent", "%%", 'quo"te', "back`tick", "two words", "co:lon", ":x", "brack[et]",
    "par(en)", "do.t", "ünï", "select", "UpperCase", "apos'trophe", "back\\slash", "que?stion",
    "dol$lar", "semi;colon", "kmsenv_value",
]  # fmt: skip
DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mysql}


@pytest.fixture(params=NAMES)
def table(request, engine, metadata, keyring):
    """A table with such a name, and columns with such names: a key of the server, a scope."""
    name = request.param
    table = Table(
        f"kmsenv {name}",
        metadata,
        Column(f"id {name}", Integer, primary_key=True, key="id"),
        Column(f"name {name}", String(20), nullable=False, unique=True),
        Column(f"scope {name}", String(20), nullable=False),
        Column(name, Encrypted(String)),
        Column(f"scoped {name}", Encrypted(String, scope=[f"scope {name}"])),
        Column(f"named {name}", Encrypted(String, identity=[f"name {name}"])),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return table


def columns_of(table):
    """Name, scope, and the encrypted columns."""
    _, name, scope, *encrypted = table.columns
    return name, scope, encrypted


def row(table, named, value):
    """A row as parameters."""
    name, scope, encrypted = columns_of(table)
    return {name.key: named, scope.key: "t", **{each.key: value for each in encrypted}}


def read(engine, table):
    """The values of each row, by name."""
    name, _, encrypted = columns_of(table)
    with engine.connect() as connection:
        found = connection.execute(select(name, *encrypted)).all()
    for each in found:
        assert len(set(each[1:])) == 1
    return {each[0]: each[1] for each in found}


def test_core_statements_take_any_name(table, engine, database):
    """Inserted with keys of the server, updated by key and by name, one row and many, upserted."""
    name, _, encrypted = columns_of(table)
    first = encrypted[0]
    with engine.begin() as connection:
        connection.execute(insert(table).values(row(table, "a", "1")))
        connection.execute(insert(table), [row(table, "b", "1"), row(table, "c", "1")])
        new = {each.key: "2" for each in encrypted}
        connection.execute(update(table).where(name == "b").values(new))
        key = connection.scalar(select(table.c.id).where(name == "c"))
        connection.execute(update(table).where(table.c.id == bindparam("key")), [
            {"key": key, **dict.fromkeys(new, "3")}, {"key": key + 99, **new},
        ])  # fmt: skip
        upsert = DIALECTS[database].insert(table).values({"id": key, **row(table, "c", "4")})
        if database == "mariadb":
            # Any unique key may be hit, so that whatever values are bound to is set.
            new_row = {each.key: upsert.inserted[each.key] for each in table.columns}
            upsert = upsert.on_duplicate_key_update(new_row | {first.key: "4"})
        else:
            upsert = upsert.on_conflict_do_update(
                index_elements=[table.c.id], set_={first.key: "4"}
            )
        if not (database == "mariadb" and "%" in table.name):  # SQLAlchemy escapes it twice
            connection.execute(upsert)
            assert connection.scalar(select(first).where(table.c.id == key)) == "4"
        connection.execute(update(table).where(table.c.id == key).values(dict.fromkeys(new, "3")))
    assert read(engine, table) == {"a": "1", "b": "2", "c": "3"}


def test_the_orm_takes_any_name(table, engine):
    """Flushed with keys of the server, changed, and moved to another scope."""

    class Row:
        pass

    name, scope, encrypted = columns_of(table)
    attributes = [f"value_{place}" for place, _ in enumerate(encrypted)]
    properties = {"name": name, "scope": scope, **dict(zip(attributes, encrypted, strict=True))}
    registry().map_imperatively(Row, table, properties=properties)
    with Session(engine) as session:
        for named in "ab":
            new: Any = Row()
            new.name, new.scope = named, "t"
            for attribute in attributes:
                setattr(new, attribute, "1")
            session.add(new)
        session.commit()
        first: Any = session.scalars(select(Row).where(name == "a")).one()
        for attribute in attributes:
            setattr(first, attribute, "2")
        session.flush()
        first.scope = "u"
        session.commit()
    assert read(engine, table) == {"a": "2", "b": "1"}


def test_jobs_take_any_name(table, engine, metadata, local_kms):
    """Read by pages, and written by key."""
    with engine.begin() as connection:
        connection.execute(insert(table), [row(table, named, "1") for named in "abc"])
    local_kms.rotate()
    assert rewrap(engine, metadata).counts.rewritten == 9
    assert reencrypt(engine, metadata).ok
    assert verify(engine, metadata).ok
    assert survey(engine, metadata).ok
    assert read(engine, table) == {"a": "1", "b": "1", "c": "1"}
