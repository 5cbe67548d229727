"""docs/adopting.md: its files, two releases at a time, under traffic."""

import importlib
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    String,
    create_engine,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from tests.conftest import on
from tests.test_docs import DOCUMENTS, python_files

PAGE = next(page for page in DOCUMENTS if page.name == "adopting.md")
RELEASES = ("release_0", "release_1", "release_2", "release_3")
SEEDED = 60
# Nothing writes every fifth of the rows but the copy.
LEFT_ALONE = 5
STEPS = 30
LONG_AGO = "2020-02-02 00:00:00"
TODAY = """
from datetime import datetime
from sqlalchemy import Engine, String, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    iban: Mapped[str | None] = mapped_column(String(34))
    updated_at: Mapped[datetime] = mapped_column(default=func.now(), onupdate=func.now())

def connect(url: str) -> Engine:
    return create_engine(url)
"""


@pytest.fixture
def page(tmp_path, monkeypatch, local_kms):
    """The files of the page, importable, beside a new key file."""
    files = {"release_0.py": TODAY, **python_files(PAGE)}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = [Path(name).stem for name in files]
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def url(engine):
    """A database without the table, before and after."""
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS customers"))
    yield engine.url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS customers"))


@pytest.fixture
def connect(page, url):
    """An engine for a module of the page, as each process has its own."""
    engines: list[Engine] = []

    def connect(release: ModuleType) -> Engine:
        engines.append(release.connect(url))
        return engines[-1]

    yield connect
    for engine in engines:
        engine.dispose()


@dataclass
class Truth:
    """The last version of each row that was committed; an erased one is the last for good."""

    erased: Any
    versions: dict[int, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def value(self, key: int) -> Any:
        version = self.versions[key]
        return self.erased if version == float("inf") else f"{version:04.0f}"

    def version(self, value: Any) -> float:
        return float("inf") if value == self.erased else float(value)


@dataclass
class Process:
    """One process of a release: it writes its own rows, and reads everybody's."""

    release: ModuleType
    engine: Engine
    truth: Truth
    number: int

    def run(self) -> None:
        chosen = random.Random(self.number)  # noqa: S311  which rows, not keys
        # One after the other, on SQLite, nothing is gained by many.
        steps = STEPS if self.engine.dialect.name != "sqlite" else STEPS // 4
        try:
            for _ in range(steps):
                chosen.choice((self.sign_up, self.change, self.change, self.erase))(chosen)
                self.read(chosen)
        except Exception as error:  # noqa: BLE001  told by the test, not by a thread
            self.truth.errors.append(f"{self.release.__name__}: {type(error).__name__}: {error}")

    def sign_up(self, _: random.Random) -> None:
        with Session(self.engine) as session:
            session.add(one := self.release.Customer(iban="0001"))
            session.commit()
            self.truth.versions[one.id] = 1

    def change(self, chosen: random.Random) -> None:
        key = self.own(chosen)
        version = self.truth.versions[key] + 1
        self.write(key, None if version == float("inf") else f"{version:04.0f}")

    def erase(self, chosen: random.Random) -> None:
        self.write(self.own(chosen), None)

    def own(self, chosen: random.Random) -> int:
        mine = [key for key in sorted(self.truth.versions) if key % 2 == self.number % 2]
        return chosen.choice([key for key in mine if key % LEFT_ALONE])

    def write(self, key: int, value: str | None) -> None:
        value = self.truth.erased if value is None else value
        with Session(self.engine) as session:
            one = session.get_one(self.release.Customer, key)
            one.iban = value
            session.commit()
        self.truth.versions[key] = self.truth.version(value)

    def read(self, chosen: random.Random) -> None:
        key = chosen.choice(sorted(self.truth.versions))
        at_least = self.truth.versions[key]
        with Session(self.engine) as session:
            seen = session.get_one(self.release.Customer, key).iban
        if self.truth.version(seen) < at_least:
            self.truth.errors.append(f"{self.release.__name__} read {seen!r} after {at_least}")


def side_by_side(
    processes: list[Process], meanwhile: Callable[[], None] = lambda: None, *, at_once: bool
) -> None:
    """Let processes run at the same time, and something else with them."""
    threads = [threading.Thread(target=process.run) for process in processes]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    meanwhile()
    for thread in threads:
        thread.join()
    assert processes[0].truth.errors == []


def seed(engine: Engine, erased: Any) -> Truth:
    """The table of today, with rows."""
    kind, stamp = {
        "sqlite": ("INTEGER", "DATETIME"),
        "postgresql": ("SERIAL", "TIMESTAMP"),
    }.get(engine.dialect.name, ("INTEGER AUTO_INCREMENT", "DATETIME"))
    touched = "ON UPDATE CURRENT_TIMESTAMP" if "AUTO" in kind else ""
    nullable = "" if erased is None else "NOT NULL"
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE customers (id {kind} PRIMARY KEY, iban VARCHAR(34) {nullable},"
                f" updated_at {stamp} NOT NULL DEFAULT CURRENT_TIMESTAMP {touched})"
            )
        )
        connection.execute(
            text("INSERT INTO customers (iban, updated_at) VALUES ('0001', :at)"),
            [{"at": LONG_AGO}] * SEEDED,
        )
    return Truth(erased, dict.fromkeys(range(1, SEEDED + 1), 1.0))


def migrate(engine: Engine, change: Callable[[Any], Any]) -> None:
    """Alter the table, as a migration does."""
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("customers") as table:
            change(table)


@pytest.mark.parametrize("erased", [None, ""], ids=["nullable", "not null"])
def test_each_release_beside_the_next_loses_nothing(database, engine, page, connect, erased):
    """Today, 1, 2, 3 and the drop: no erased value returns, no customer is refused."""
    truth = seed(engine, erased)
    at_once = database != "sqlite"

    def pair(*releases: str) -> list[Process]:
        return [
            Process(page[name], connect(page[name]), truth, number)
            for number, name in enumerate(releases)
        ]

    migrate(engine, lambda table: table.add_column(Column("iban_enc", Encrypted(String(34)))))
    side_by_side(pair("release_0", "release_1"), at_once=at_once)

    # Everything at once needs locks: the page says to stop the writers of SQLite.
    options = {"isolation_level": "READ COMMITTED"} if at_once else {}
    copier = create_engine(engine.url, **options)
    side_by_side(
        pair("release_1", "release_1"), lambda: page["copying"].copy(copier, 7), at_once=at_once
    )
    assert page["copying"].differing(copier) == []
    copier.dispose()

    side_by_side(pair("release_1", "release_2"), at_once=at_once)
    assert page["copying"].differing(engine) == []
    if erased is not None:
        nullable = {"existing_type": String(34), "nullable": True}
        migrate(engine, lambda table: table.alter_column("iban", **nullable))
    side_by_side(pair("release_2", "release_3"), at_once=at_once)
    migrate(engine, lambda table: table.drop_column("iban"))
    side_by_side(pair("release_3", "release_3"), at_once=at_once)

    Customer = page["release_3"].Customer
    with Session(connect(page["release_3"])) as session:
        query = select(Customer.id, Customer.iban)
        read = {row.id: row.iban for row in session.execute(query)}
        alone = select(Customer.updated_at).where(Customer.id % LEFT_ALONE == 0)
        stamps = {str(stamp) for stamp in session.scalars(alone.where(Customer.id <= SEEDED))}
    assert read == {key: truth.value(key) for key in truth.versions}
    assert stamps == {LONG_AGO}


@pytest.fixture
def written_both(page, engine, connect):
    """The table as release 1 finds it."""
    seed(engine, None)
    migrate(engine, lambda table: table.add_column(Column("iban_enc", Encrypted(String(34)))))
    return connect(page["release_1"])


def pairs(page, engine, *where):
    """What both columns hold."""
    Customer = page["release_1"].Customer
    with Session(engine) as session:
        query = select(Customer.iban, Customer.iban_enc).where(*where)
        return [tuple(row) for row in session.execute(query.order_by(Customer.id))]


def test_value_erased_after_its_copy_stays_erased(page, engine, written_both):
    """The object was loaded before the copy: nothing has changed for the ORM, None is None."""
    Customer = page["release_1"].Customer
    with Session(written_both) as session:
        customer = session.get_one(Customer, 1)
        assert (customer.iban, customer.iban_enc) == ("0001", None)
        # Ends the transaction and keeps what is loaded, or SQLite locks the copy out.
        session.expunge_all()
        session.rollback()
        page["copying"].copy(engine)
        session.add(customer)
        customer.iban = None
        session.commit()

    assert pairs(page, written_both, Customer.id == 1) == [(None, None)]
    assert page["copying"].differing(engine) == []


def test_object_without_a_change_moves_nothing(page, engine, written_both):
    """An attribute set to what it is must not stamp the row, nor be written over."""
    Customer = page["release_1"].Customer
    with Session(written_both) as session:
        session.get_one(Customer, 1).iban = "0001"
        session.commit()

    assert pairs(page, written_both, Customer.id == 1) == [("0001", None)]


def test_insert_statement_fills_both_in(page, engine, written_both):
    """It never comes by the flush."""
    Customer = page["release_1"].Customer
    with Session(written_both) as session:
        session.execute(insert(Customer), [{"iban": "DE1"}, {"iban": None}])
        session.execute(insert(Customer).values(iban="DE2"))
        session.commit()

    found = pairs(page, written_both, Customer.id > SEEDED)
    assert found == [("DE1", "DE1"), (None, None), ("DE2", "DE2")]


def test_update_of_one_column_alone_is_refused(page, engine, written_both):
    """A bulk UPDATE that erases is the statement that must not be forgotten."""
    Customer = page["release_1"].Customer
    statement = update(Customer).where(Customer.id <= 2)
    raw = text("UPDATE customers SET iban = NULL WHERE id <= 2")
    with Session(written_both) as session:
        for alone in (statement.values(iban=None), raw):
            with pytest.raises(RuntimeError, match="set both"):
                session.execute(alone)
        session.execute(statement.values(iban=None, iban_enc=None))
        session.execute(text("UPDATE customers SET updated_at = updated_at WHERE iban = 'x'"))
        session.commit()

    assert pairs(page, written_both, Customer.id <= 2) == [(None, None)] * 2


@on("sqlite")
def test_upsert_that_sets_one_column_alone_is_refused(page, engine, written_both):
    """Its INSERT names both, by the default; the row that is there would get one."""
    Customer = page["release_1"].Customer
    new = sqlite.insert(Customer).values(id=1, iban="new")
    alone = new.on_conflict_do_update(index_elements=["id"], set_={"iban": "new"})
    both = new.on_conflict_do_update(
        index_elements=["id"], set_={"iban": "new", "iban_enc": new.excluded.iban_enc}
    )
    raw = text("INSERT OR REPLACE INTO customers (id, iban, updated_at) VALUES (1, 'a', 0)")
    told = update(Customer).values(iban="x").where(Customer.id == 1).returning(Customer.iban_enc)
    with Session(written_both) as session:
        for refused in (alone, raw, told):
            with pytest.raises(RuntimeError, match="set both"):
                session.execute(refused)
        session.execute(both)
        session.commit()

    assert pairs(page, written_both, Customer.id == 1) == [("new", "new")]


def test_default_and_change_inside_of_a_value_reach_both(page, engine, metadata, keyring):
    """What the table of the page promises for columns that are not as simple as the example."""
    shared = metadata

    class Base(DeclarativeBase):
        metadata = shared

    class Guest(Base):
        __tablename__ = "kmsenv_guests"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(default="unknown", type_=String(40))
        name_enc: Mapped[str | None] = mapped_column(
            Encrypted(String),
            default=lambda context: context.get_current_parameters().get("name", "unknown"),
        )
        notes: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON))
        notes_enc: Mapped[Any] = mapped_column(Encrypted(JSON))

    for name in ("name", "notes"):
        page["writing_both"].write_both(Guest, written=name, also=f"{name}_enc")
    attach_keyrings(metadata, keyring)
    metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Guest(notes={}), Guest(name="Ada", notes={"a": 1})])
        session.execute(insert(Guest), [{"notes": {}, "notes_enc": {}}])
        session.commit()
        for guest in session.scalars(select(Guest)):
            guest.notes["b"] = 2
        session.commit()
        rows = session.execute(select(Guest.name, Guest.notes).order_by(Guest.id)).all()
        sealed = session.execute(select(Guest.name_enc, Guest.notes_enc).order_by(Guest.id)).all()

    assert [tuple(row) for row in rows] == [tuple(row) for row in sealed]
    assert [row.name for row in rows] == ["unknown", "Ada", "unknown"]
    assert all(row.notes["b"] == 2 for row in rows)


def test_autogenerate_leaves_the_old_column_until_the_drop(page, engine, written_both):
    """Release 3 does not know it, and release 2 still runs."""

    def differences(**options: Any) -> str:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            return str(compare_metadata(context, page["release_3"].Base.metadata))

    assert "remove_column" in differences()
    assert "remove_column" not in differences(
        include_object=page["env_until_the_drop"].include_object
    )
