"""What was read before never decides how a stored value is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.orm import Session, aliased, registry
from sqlalchemy.pool import StaticPool

from sqlalchemy_kmsenv import (
    Encrypted,
    Keyring,
    KmsEnvError,
    LocalKms,
    attach_keyrings,
)
from sqlalchemy_kmsenv.envelope import NONCE_AND_TAG_BYTES, parse_header

COLUMNS = ("shared", "scoped", "rowed", "loose")
ROWS = range(1, 6)
TARGET = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Five rows of two tenants on SQLite, and a mapped class over them."""
    folder: Path = tmp_path_factory.mktemp("world")
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", Integer, primary_key=True),
        Column("tenant", String(9), nullable=False),
        Column("shared", Encrypted(String)), Column("scoped", Encrypted(String, scope=["tenant"])),
        Column("rowed", Encrypted(String, scope="row")),
        Column("loose", Encrypted(String, bind="column")), Column("plain", String),
    )  # fmt: skip
    keyring = Keyring(LocalKms.create(folder / "keys.json"))
    attach_keyrings(metadata, keyring)
    engine = create_engine(f"sqlite:///{folder / 'world.db'}")
    metadata.create_all(engine)
    rows = [
        {"id": i, "tenant": f"t{i % 2}", **{name: f"{name} {i}" for name in COLUMNS}} for i in ROWS
    ]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
        raw = {
            (name, i): connection.exec_driver_sql(f"SELECT {name} FROM t WHERE id={i}").scalar()
            for name in COLUMNS
            for i in ROWS
        }

    class Row:
        pass

    registry().map_imperatively(Row, table)
    engine.dispose()
    return SimpleNamespace(table=table, Row=Row, keyring=keyring, folder=folder, raw=raw)


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "column": lambda w, c: select(c).order_by(w.table.c.id),
    "backwards": lambda w, c: select(c).order_by(w.table.c.id.desc()),
    "one row": lambda w, c: select(c).where(w.table.c.id == TARGET),
    "label": lambda w, c: select(w.table.c.id, c.label("x")),
    "entity": lambda w, _: select(w.Row),
    "alias": lambda w, _: select(aliased(w.Row)),
    "subquery": lambda w, c: select(select(w.table).subquery().c[c.key]),
    "union": lambda w, c: union_all(
        select(w.table.c.id, w.table.c.tenant, c).where(w.table.c.id < TARGET),
        select(w.table.c.id, w.table.c.tenant, c).where(w.table.c.id >= TARGET),
    ),
    "returning": lambda w, c: update(w.table).values(plain="x").returning(c),
    "text": lambda _, c: text(f"SELECT {c.key} FROM t").columns(c),
    "text of an entity": lambda w, _: select(w.Row).from_statement(text("SELECT * FROM t")),
}


@st.composite
def damages(draw: st.DrawFn) -> Callable[[Any, str], Any]:
    """What somebody who may write to the table can put into a cell."""
    kind = draw(
        st.sampled_from(["cut", "flip", "insert", "behind", "swap", "mix", "bytes", "text", "none"])
    )
    at, by = draw(st.integers(0, 400)), draw(st.integers(1, 255))
    junk = draw(st.binary(min_size=1, max_size=12))
    source = draw(st.tuples(st.sampled_from(COLUMNS), st.sampled_from(ROWS)))

    def damage(world: Any, column: str) -> Any:
        raw = world.raw[column, TARGET]
        size = parse_header(raw).size
        place = min(at, len(raw) - 1)
        other = world.raw[source]
        return {
            "cut": raw[:place],
            "flip": raw[:place] + bytes([raw[place] ^ by]) + raw[place + 1 :],
            "insert": raw[:place] + junk + raw[place:],
            "behind": junk + raw,
            "swap": other,
            "mix": raw[:size] + other[parse_header(other).size :],
            "bytes": junk,
            "text": junk.hex(),
            "none": raw,
        }[kind]

    return damage


def outcome(world: Any, engine: Engine, statement: Any) -> tuple[str, str, dict[str, int]]:
    """Class and text of what is raised, or what is read; and which refusals were counted."""
    before = world.keyring.stats().refusals
    try:
        with Session(engine) as session:
            rows = [
                sorted(str(value) for name, value in vars(row[0]).items() if name in COLUMNS)
                if isinstance(row[0], world.Row)
                else [str(value) for value in row]
                for row in session.execute(statement).all()
            ]
        told: tuple[str, str] = ("read", str(rows))
    except KmsEnvError as error:
        told = (type(error).__name__, str(error))
    after = world.keyring.stats().refusals
    return *told, {
        kind: n - before.get(kind, 0) for kind, n in after.items() if n != before.get(kind, 0)
    }


def new_engine(world: Any, column: str, damaged: Any) -> Engine:
    """One that has compiled and opened nothing yet, over a database with one damaged cell."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ATTACH '{world.folder / 'world.db'}' AS kept")
        connection.exec_driver_sql("CREATE TABLE t AS SELECT * FROM kept.t")
        connection.exec_driver_sql(f"UPDATE t SET {column}=? WHERE id={TARGET}", (damaged,))
    return engine


@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(column=st.sampled_from(COLUMNS), form=st.sampled_from(list(FORMS)), damage=damages())
def test_cold_and_warm_never_differ(world, column, form, damage):
    """A false alarm, or an error outside the family, would depend on what was read before."""
    damaged = damage(world, column)
    engine = new_engine(world, column, damaged)
    target = world.table.c[column]
    world.keyring.forget()
    cold = outcome(world, engine, FORMS[form](world, target))
    again = outcome(world, engine, FORMS[form](world, target))
    with engine.connect() as connection:
        connection.execute(select(world.table.c[column]).where(world.table.c.id != TARGET)).all()
    warm = outcome(world, engine, FORMS[form](world, target))
    engine.dispose()
    assert cold == again == warm
    kind, _, counted = warm
    if kind in ("read", "UnboundValueError"):
        assert counted == {}
        unharmed = damaged == world.raw[column, TARGET] or column == "loose"
        assert kind != "read" or unharmed
    else:
        assert sum(counted.values()) == 1


def test_every_truncation_is_refused_by_its_length(world):
    """Also one that ends inside of the nonce, or of the tag, behind a header that is known."""
    too_short = ("EnvelopeError", {"no envelope": 1})
    altered = ("WrongCellError", {"other row or damaged": 1})
    for column in COLUMNS:
        raw = world.raw[column, TARGET]
        smallest = parse_header(raw).size + NONCE_AND_TAG_BYTES
        engine = new_engine(world, column, raw)
        statement = select(world.table.c[column]).order_by(world.table.c.id)
        assert outcome(world, engine, statement)[0] == "read"
        for length in range(len(raw)):
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    f"UPDATE t SET {column}=? WHERE id={TARGET}", (raw[:length],)
                )
            kind, told, counted = outcome(world, engine, statement)
            expected = too_short if length < smallest else altered
            assert (kind, counted) == expected, (column, length, told)
        engine.dispose()
