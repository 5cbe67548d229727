"""UPDATE of rows with keys of several columns: of every kind, bound in every way, on every path."""

import datetime as dt
import enum
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Date,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
    Uuid,
    bindparam,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Session, load_only, mapped_column

from sqlalchemy_kmsenv import Encrypted, attach_keyrings


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Guid(TypeDecorator):
    """The recipe of SQLAlchemy's documentation, by text."""

    impl = CHAR(32)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.hex

    def process_result_value(self, value, dialect):
        return None if value is None else uuid.UUID(value)


KINDS: dict[str, tuple[Any, list[Any]]] = {
    "int": (Integer, [1, -5]),
    "str": (String(20), ["Ab", "%(a)s: é"]),
    "uuid": (Uuid, [uuid.UUID(int=0), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")]),
    "text_uuid": (Uuid(as_uuid=False), [str(uuid.UUID(int=5)), str(uuid.UUID(int=6))]),
    "bytes": (LargeBinary(20).with_variant(mysql.VARBINARY(20), "mysql"), [b"", b"a:\x00\xff"]),
    "date": (Date, [dt.date(1000, 12, 31), dt.date(2026, 1, 2)]),
    "time": (
        DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql"),
        list(map(dt.datetime.fromisoformat, ["2026-01-02 03:04:05.000006", "1000-12-31"])),
    ),
    "enum": (Enum(Color), [Color.RED, Color.BLUE]),
    "guid": (Guid, [uuid.UUID(int=1), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")]),
}
KEYS = [
    "int int", "int str", "str uuid", "uuid bytes", "bytes date", "date int", "text_uuid str",
    "guid time", "enum int", "int str uuid", "bytes date int", "guid enum time",
]  # fmt: skip
COLUMNS: dict[str, Any] = {
    "own": {},
    "scoped": {"scope": ["tenant"]},
    "twice": {"scope": ["tenant", "region"]},
    "by_part": {"scope": ["key_0"]},
    "by_both": {"scope": ["key_1", "tenant"]},
    "by_row": {"scope": "row"},
    "named": {"identity": ["serial"]},
    "named_scoped": {"identity": ["serial"], "scope": ["tenant"]},
}


@pytest.fixture(params=KEYS)
def models(request, engine, keyring):
    """A table with such a key, a column for every way of binding, and four rows."""
    kinds = request.param.split()

    class Base(DeclarativeBase):
        pass

    keys = {
        f"key_{place}": mapped_column(KINDS[kind][0], primary_key=True, autoincrement=False)
        for place, kind in enumerate(kinds)
    }
    plain = {
        "tenant": mapped_column(String(20), nullable=False),
        "region": mapped_column(Integer, nullable=False),
        "serial": mapped_column(Integer, nullable=False, unique=True),
    }
    encrypted = {name: mapped_column(Encrypted(String, **how)) for name, how in COLUMNS.items()}
    Row: Any = type("Row", (Base,), {"__tablename__": "kmsenv_rows", **keys, **plain, **encrypted})
    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    rows = []
    for serial in range(4):
        # The first two parts tell the rows apart only together.
        values = [KINDS[kind][1][serial // (place + 1) % 2] for place, kind in enumerate(kinds)]
        rows.append(dict(zip(keys, values, strict=True)))
        rows[-1] |= {"serial": serial, "tenant": f"T{serial % 3}", "region": serial}
        rows[-1] |= {name: f"{name} {serial}" for name in COLUMNS}
    with engine.begin() as connection:
        connection.execute(insert(Row.__table__), rows)
    yield SimpleNamespace(Row=Row, table=Row.__table__, keys=list(keys), rows=rows)
    Base.metadata.drop_all(engine)


def _by_flush(session, models, changes):
    for serial, values in changes.items():
        row = session.scalars(select(models.Row).filter_by(serial=serial)).one()
        for name, value in values.items():
            setattr(row, name, value)
    session.flush()


def _by_flush_of_parts(session, models, changes):
    """Neither scope nor identity is loaded, so that the UPDATE looks them up."""
    only_keys = load_only(*(getattr(models.Row, key) for key in models.keys))
    for serial, values in changes.items():
        query = select(models.Row).options(only_keys).filter_by(serial=serial)
        row = session.scalars(query).one()
        for name, value in values.items():
            setattr(row, name, value)
    session.flush()


def _by_core(session, models, changes):
    for serial, values in changes.items():
        named = [models.table.c[key] == models.rows[serial][key] for key in models.keys]
        session.connection().execute(update(models.table).where(*named).values(values))


def _by_key(session, models, changes):
    session.execute(update(models.Row), _with_keys(models, changes))


def _by_mappings(session, models, changes):
    session.bulk_update_mappings(models.Row, _with_keys(models, changes))


def _by_executemany(session, models, changes):
    named = [models.table.c[key] == bindparam(f"old_{key}") for key in models.keys]
    rows = [
        {f"old_{name}" if name in models.keys else name: value for name, value in row.items()}
        for row in _with_keys(models, changes)
    ]
    session.connection().execute(update(models.table).where(*named), rows)


def _with_keys(models, changes):
    return [
        {**{key: models.rows[serial][key] for key in models.keys}, **values}
        for serial, values in changes.items()
    ]


WAYS = [_by_flush, _by_flush_of_parts, _by_core, _by_key, _by_mappings, _by_executemany]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__[1:])
def test_an_update_seals_for_the_row_that_it_names(write, models, engine):
    """Scope and identity are looked up by all parts of the key, for one column and for all."""
    expected = {row["serial"]: {name: row[name] for name in COLUMNS} for row in models.rows}
    every = {serial: dict.fromkeys(COLUMNS, f"new {serial}") for serial in (0, 3)}
    alone = [{1: {name: name}, 2: {name: "x"}} for name in ("own", "twice", "named_scoped")]
    with Session(engine) as session:
        for changes in [every, *alone]:
            write(session, models, changes)
            for serial, values in changes.items():
                expected[serial].update(values)
        session.commit()
    with Session(engine) as session:
        rows = session.scalars(select(models.Row)).all()
        assert {r.serial: {name: getattr(r, name) for name in COLUMNS} for r in rows} == expected


@pytest.mark.parametrize("models", ["int int"], indirect=True)
def test_looking_up_keys_leaves_the_cache_to_the_application(models, engine):
    """Each number of rows is a statement of its own: a job would crowd out all others."""
    kept: dict[Any, Any] = {}
    named = [models.table.c[key] == bindparam(f"old_{key}") for key in models.keys]
    for how_many in (1, 2, 3, 4):  # one row and several are compiled apart
        rows = [
            {**{f"old_{key}": row[key] for key in models.keys}, "scoped": "x"}
            for row in models.rows[:how_many]
        ]
        with engine.execution_options(compiled_cache=kept).begin() as connection:
            connection.execute(update(models.table).where(*named), rows)
        if how_many == 2:
            size = len(kept)
    assert len(kept) == size > 0


@pytest.mark.parametrize("models", ["int str"], indirect=True)
def test_a_lookup_is_one_query_for_all_rows(models, engine):
    """Hundreds of rows that are written together cost one round trip more."""
    seen = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with Session(engine) as session:
        _by_key(session, models, {serial: {"named": "x"} for serial in range(4)})
    assert sum(each.startswith("SELECT") for each in seen) == 1
