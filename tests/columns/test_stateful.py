"""Random sequences of operations, against a dictionary that says what the tables should hold.

A run is short and always the same. ``KMSENV_TEST_SEQUENCES=2000`` makes it that many random
sequences a database, each longer, and reduces what fails to a short program.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import (
    JSON,
    Column,
    ColumnClause,
    Engine,
    Integer,
    LargeBinary,
    String,
    Table,
    TableClause,
    Uuid,
    bindparam,
    delete,
    event,
    insert,
    inspect,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction, mapped_column
from sqlalchemy.orm.util import identity_key

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, WrongCellError, attach_keyrings
from sqlalchemy_kmsenv.envelope import parse_header

SEQUENCES = int(os.environ.get("KMSENV_TEST_SEQUENCES", "0"))
CANARY = "kmsenv-canary"
TENANTS = ("t1", "t2", "t3")
ENCRYPTED = ("text", "secret")
GIVEN_KEYS = range(-12, 0)  # The server generates others, except SQLite where it has no choice.

NEW = ("add", "add", "add given")
OLD = ("change", "change", "move", "rekey", "delete", "replace", "merge")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(
    lambda text: CANARY + text
)
cells: dict[str, st.SearchStrategy[Any]] = {
    "text": st.none() | texts,
    "secret": st.none() | st.fixed_dictionaries({"value": texts}),
}
tenants = st.sampled_from(TENANTS)
none_or_all = st.sampled_from([(), ENCRYPTED])
some_cells = st.sampled_from([("text",), ("secret",), ENCRYPTED])


class Row(NamedTuple):
    """What a row should hold beside its key; the name tells rows apart whose key is not known."""

    name: str
    tenant: str
    text: str | None
    secret: dict[str, str] | None


Rows = dict[Any, Row]
Data = st.DataObject


@pytest.fixture
def world(engine: Engine, keyring: Keyring, local_kms: LocalKms) -> Iterator[SimpleNamespace]:
    """Notes, which the server numbers, and cards, which Python numbers."""
    # Not at random, so that the same run meets the same keys.
    uuids = (uuid_of(number) for number in itertools.count(1))

    class Base(DeclarativeBase):
        pass

    class Columns:
        name = mapped_column(String(20), nullable=False)
        tenant = mapped_column(String(20), nullable=False)
        text = mapped_column(Encrypted(String))
        secret = mapped_column(Encrypted(JSON, scope=["tenant"]))

    class Note(Columns, Base):
        __tablename__ = "kmsenv_random_notes"
        id = mapped_column(Integer, primary_key=True)

    class Card(Columns, Base):
        __tablename__ = "kmsenv_random_cards"
        id = mapped_column(Uuid, primary_key=True, default=lambda: next(uuids))

    if engine.dialect.name == "sqlite":
        begin_properly(engine)
    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(
        engine=engine, models=(Note, Card), keyring=keyring, kms=local_kms, uuids=uuids
    )
    Base.metadata.drop_all(engine)


def uuid_of(number: int) -> UUID:
    """A UUID that looks like a random one."""
    return UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128, version=4)


def begin_properly(engine: Engine) -> None:
    """sqlite3 begins no transaction for a SAVEPOINT; SQLAlchemy's documentation does it so."""

    @event.listens_for(engine, "connect")
    def connect(driver: Any, _: Any) -> None:
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


class Sequences(RuleBasedStateMachine):
    """One session, and what its tables should hold after each operation."""

    def __init__(self, world: SimpleNamespace) -> None:
        super().__init__()
        self.world = world
        self.numbers = itertools.count(1)
        self.seen: dict[bytes, tuple[Any, ...]] = {}
        self.steps = 0
        self.session = Session(world.engine)
        for model in world.models:
            self.session.execute(delete(model))
        self.session.commit()
        self.rows: dict[Any, Rows] = {model: {} for model in world.models}
        self.committed = self._copy()
        self.savepoints: list[tuple[SessionTransaction, dict[Any, Rows]]] = []
        self.held: list[Any] = []  # Else the session would forget what it has loaded.

    def teardown(self) -> None:
        self.session.close()

    # Through the unit of work

    @rule(data=st.data())
    def flush(self, data: Data) -> None:
        """Several objects in one flush: new, changed, moved, deleted, replaced."""
        free = {model: set(rows) for model, rows in self.rows.items()}
        taken = {model: set(rows) for model, rows in self.rows.items()}
        added: list[tuple[Any, Row]] = []
        with self.session.no_autoflush:
            for _ in range(data.draw(st.integers(1, 5), label="objects")):
                model = self._model(data)
                how = data.draw(st.sampled_from(NEW + (OLD if free[model] else ())))
                if how == "add":
                    row = self._new_row(data)
                    instance = model(**row._asdict())
                    self.session.add(instance)
                    added.append((instance, row))
                elif how == "add given":
                    key = self._new_key(data, model, taken[model])
                    if key is not None:
                        row = self._new_row(data)
                        self.session.add(model(id=key, **row._asdict()))
                        taken[model].add(key)
                        self.rows[model][key] = row
                else:
                    key = data.draw(
                        st.sampled_from([k for k in self.rows[model] if k in free[model]])
                    )
                    free[model].discard(key)
                    getattr(self, "_" + how)(data, model, key, taken[model])
        self.session.flush()
        for instance, row in added:
            self.rows[type(instance)][instance.id] = row

    def _change(self, data: Data, model: Any, key: Any, _: set[Any]) -> None:
        self._set(data, self.session.get_one(model, key), data.draw(some_cells))

    def _move(self, data: Data, model: Any, key: Any, _: set[Any]) -> None:
        instance = self.session.get_one(model, key)
        instance.tenant = data.draw(tenants)
        self._note(model, key, tenant=instance.tenant)
        self._set(data, instance, data.draw(none_or_all))

    def _rekey(self, data: Data, model: Any, key: Any, taken: set[Any]) -> None:
        new = self._new_key(data, model, taken)
        if new is None:
            return
        taken.add(new)
        instance = self.session.get_one(model, key)
        instance.id = new
        self.rows[model][new] = self.rows[model].pop(key)
        self._set(data, instance, data.draw(none_or_all))

    def _delete(self, data: Data, model: Any, key: Any, _: set[Any]) -> None:
        self.session.delete(self.session.get_one(model, key))
        del self.rows[model][key]

    def _replace(self, data: Data, model: Any, key: Any, _: set[Any]) -> None:
        row = self._new_row(data)
        self.session.delete(self.session.get_one(model, key))
        self.session.add(model(id=key, **row._asdict()))
        self.rows[model][key] = row

    def _merge(self, data: Data, model: Any, key: Any, _: set[Any]) -> None:
        row = self._new_row(data)
        self.session.merge(model(id=key, **row._asdict()))
        self.rows[model][key] = row

    def _set(self, data: Data, instance: Any, names: tuple[str, ...]) -> None:
        changes = {name: data.draw(cells[name], label=name) for name in names}
        for name, value in changes.items():
            setattr(instance, name, value)
        self._note(type(instance), instance.id, **changes)

    @precondition(lambda self: any(self.rows.values()))
    @rule(data=st.data())
    def expire_or_refresh(self, data: Data) -> None:
        """What an object forgets, it reads again."""
        model = self._model(data, filled=True)
        for key in self._some_keys(data, model):
            instance = self.session.get_one(model, key)
            how = data.draw(st.sampled_from(["expire", "expire one", "refresh", "refresh one"]))
            method = getattr(self.session, how.split()[0])
            method(instance, *([data.draw(some_cells)] if " " in how else []))

    # Transactions

    @rule()
    def commit(self) -> None:
        """Open savepoints are released with it."""
        self.session.commit()
        self.committed = self._copy()
        self.savepoints = []

    @rule()
    def rollback(self) -> None:
        """Everything since the last commit, savepoints included."""
        self.session.rollback()
        self.rows = self.committed
        self.committed = self._copy()
        self.savepoints = []

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def savepoint(self) -> None:
        """One more, inside of those that are open."""
        self.savepoints.append((self.session.begin_nested(), self._copy()))

    @precondition(lambda self: self.savepoints)
    @rule()
    def roll_back_to_savepoint(self) -> None:
        """Only what was done since."""
        transaction, self.rows = self.savepoints.pop()
        transaction.rollback()
        # The session only knows what it has changed itself.
        self.session.expire_all()

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        """What was done since stays."""
        self.savepoints.pop()[0].commit()

    # Core, and the ORM's bulk operations

    @rule(
        data=st.data(),
        given=st.booleans(),
        how=st.sampled_from(["one", "values", "many", "inline", "returning", "orm", "mappings"]),
    )
    def insert_rows(self, data: Data, given: bool, how: str) -> None:
        """One row or many; the keys are given, or made by Python or the server."""
        model = self._model(data)
        table: Table = model.__table__
        server_makes_keys = isinstance(table.c.id.type, Integer) and not given
        if how in ("inline", "returning") and server_makes_keys and self._dialect != "postgresql":
            return
        rows: dict[Any, Row] = {}
        for _ in range(1 if how in ("one", "values") else data.draw(st.integers(1, 4))):
            key: Any = self._new_key(data, model, {*self.rows[model], *rows}) if given else object()
            if key is not None:
                rows[key] = self._new_row(data)
        parameters = [
            {**({"id": key} if given else {}), **row._asdict()} for key, row in rows.items()
        ]
        if not parameters:
            return
        if how == "one":
            self._execute(insert(table), parameters[0])
        elif how == "values":
            self._execute(insert(table).values(parameters[0]))
        elif how == "many":
            self._execute(insert(table), parameters)
        elif how == "inline":
            self._execute(insert(table).values(parameters))
        elif how == "returning":
            returning = insert(table).returning(table.c.name, table.c.text, table.c.secret)
            # MariaDB returns what one INSERT made, in one execution for each.
            found = [tuple(row) for row in self._execute(returning, parameters)]
            expected = [(row.name, row.text, row.secret) for row in rows.values()]
            assert sorted(found, key=str) == sorted(expected, key=str)
        elif how == "orm":
            self.session.execute(insert(model), parameters)
        else:
            self.session.bulk_insert_mappings(model, parameters)
        names = [row.name for row in rows.values()]
        keys = self.session.execute(select(table.c.name, table.c.id).where(table.c.name.in_(names)))
        key_of = {row.name: row.id for row in keys}
        self.rows[model].update({key_of[row.name]: row for row in rows.values()})

    @precondition(lambda self: any(self.rows.values()))
    @rule(
        data=st.data(),
        names=some_cells,
        how=st.sampled_from(["values", "parameters", "orm", "mappings", "returning", "NULL"]),
    )
    def update_rows(self, data: Data, names: tuple[str, ...], how: str) -> None:
        """By key, one row or many."""
        model = self._model(data, filled=True)
        table: Table = model.__table__
        keys = self._some_keys(data, model)
        if not keys or (how == "returning" and self._dialect in ("mysql", "mariadb")):
            return
        changes = {key: {name: data.draw(cells[name]) for name in names} for key in keys}
        if how == "parameters":
            by_key = update(table).where(table.c.id == bindparam("which"))
            self._execute(by_key, [{"which": key, **new} for key, new in changes.items()])
        elif how == "orm":
            self._flushed().execute(
                update(model), [{"id": key, **new} for key, new in changes.items()]
            )
        elif how == "mappings":
            self._flushed().bulk_update_mappings(
                model, [{"id": key, **new} for key, new in changes.items()]
            )
        elif how == "NULL":
            changes = {key: dict.fromkeys(names) for key in keys}
            self._execute(update(table).where(table.c.id.in_(keys)).values(dict.fromkeys(names)))
        else:
            for key, new in changes.items():
                statement = update(table).where(table.c.id == key).values(new)
                if how == "values":
                    self._execute(statement)
                else:
                    returned = self._execute(statement.returning(*(table.c[each] for each in new)))
                    assert returned.one()._mapping == new
        self.session.expire_all()
        for key, new in changes.items():
            self._note(model, key, **new)

    @precondition(lambda self: any(self.rows.values()))
    @rule(data=st.data(), to_another_key=st.booleans())
    def move_row(self, data: Data, to_another_key: bool) -> None:
        """To another key or scope, with every value that is bound to it."""
        model = self._model(data, filled=True)
        table: Table = model.__table__
        for key in self._some_keys(data, model)[:1]:
            new = {"secret": data.draw(cells["secret"])}
            if to_another_key:
                new_key = self._new_key(data, model, set(self.rows[model]))
                if new_key is None:
                    return
                new |= {"id": new_key, "text": data.draw(cells["text"])}
            else:
                new |= {"tenant": data.draw(tenants)}
            self._execute(update(table).where(table.c.id == key).values(new))
            self._drop(model, key)
            row = self.rows[model].pop(key)
            now_at = new.pop("id", key)
            self.rows[model][now_at] = row._replace(**new)

    @rule(data=st.data(), names=st.sampled_from([("text",), Row._fields]))
    def upsert_rows(self, data: Data, names: tuple[str, ...]) -> None:
        """On the primary key; the rest of a row that is there stays as it is."""
        model = self._model(data)
        rows: Rows = {key: self._new_row(data) for key in self._some_keys(data, model)[:2]}
        for _ in range(data.draw(st.integers(0, 2))):
            new_key = self._new_key(data, model, {*self.rows[model], *rows})
            if new_key is not None:
                rows[new_key] = self._new_row(data)
        parameters = [{"id": key, **row._asdict()} for key, row in rows.items()]
        if not parameters:
            return
        self._execute(upsert(self._dialect, model.__table__, names), parameters)
        self.session.expire_all()
        for key, row in rows.items():
            old = self.rows[model].get(key, row)
            self.rows[model][key] = old._replace(**{name: getattr(row, name) for name in names})

    @precondition(lambda self: any(self.rows.values()))
    @rule(data=st.data(), returning=st.booleans())
    def delete_rows(self, data: Data, returning: bool) -> None:
        """RETURNING gives what was there."""
        model = self._model(data, filled=True)
        table: Table = model.__table__
        for key in self._some_keys(data, model):
            statement: Any = delete(table).where(table.c.id == key)
            row = self.rows[model].pop(key)
            if returning:
                found = self._execute(statement.returning(table.c.text, table.c.secret))
                assert tuple(found.one()) == (row.text, row.secret)
            else:
                self._execute(statement)
            self._drop(model, key)

    # Keys

    @rule()
    def rotate(self) -> None:
        """New key material wraps; the old still unwraps."""
        self.world.kms.rotate()

    @rule()
    def forget(self) -> None:
        """New data keys from here on."""
        self.world.keyring.forget()

    # What holds after each

    @invariant()
    def every_value_reads_back(self) -> None:
        """Whichever way it is read."""
        for instance in list(self.session):
            row = self.rows[type(instance)].get(inspect(instance).identity[0])
            if row is None:  # Core had inserted it, and a rollback took it away.
                self.session.expunge(instance)
            else:
                assert tuple(getattr(instance, name) for name in Row._fields) == row
        self.held = []
        for model, expected in self.rows.items():
            table = model.__table__
            columns = [table.c[name] for name in ("id", *Row._fields)]
            inner = select(*columns).where(table.c.tenant.in_(TENANTS)).subquery()
            queries = [
                select(*(getattr(model, name) for name in ("id", *Row._fields))),
                select(*columns),
                select(*(inner.c[column.key] for column in columns)),
            ]
            for query in queries:
                found = {row[0]: Row(*row[1:]) for row in self.session.execute(query)}
                assert found == expected
            entities = select(model).execution_options(populate_existing=True)
            instances = self.session.scalars(entities).all()
            assert {each.id: Row(*(getattr(each, name) for name in Row._fields))
                    for each in instances} == expected  # fmt: skip
            self.held += instances

    @invariant()
    def no_plaintext_and_no_envelope_twice(self) -> None:
        """An envelope, and its nonce, only ever appears in the cell that it was sealed for."""
        for model, rows in self.rows.items():
            name = model.__tablename__
            raw = self.session.connection().exec_driver_sql(f"SELECT * FROM {name}").all()
            assert len(raw) == len(rows)
            for cell in itertools.chain.from_iterable(raw):
                as_bytes = cell if isinstance(cell, (bytes, memoryview)) else str(cell).encode()
                assert CANARY.encode() not in bytes(as_bytes)
        now = list(self._envelopes())
        assert len({envelope for envelope, _ in now}) == len(now)
        for envelope, cell in now:
            start = parse_header(envelope).size
            for once in (envelope, envelope[start : start + 12]):
                assert self.seen.setdefault(once, cell) == cell

    @invariant()
    def a_value_that_is_put_into_another_cell_is_refused(self) -> None:
        """Another row, column or table; another pair of cells after each operation."""
        sources = list(self._envelopes())
        targets = [
            (model, name, key)
            for model, rows in self.rows.items()
            for name in ENCRYPTED
            for key in rows
        ]
        self.steps += 1
        envelope, cell = sources[self.steps % len(sources)] if sources else (b"", None)
        others = [other for other in targets if other != cell]
        if cell is None or not others:
            return
        model, name, key = others[self.steps * 7 % len(others)]
        column = model.__table__.c[name]
        connection = self.session.connection()
        with connection.begin_nested() as savepoint:
            self._overwrite(column, key, envelope)
            with pytest.raises(WrongCellError):
                connection.execute(select(column).where(column.table.c.id == key)).all()
            savepoint.rollback()

    def _envelopes(self) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
        """Every cell as it is stored, and where."""
        for model in self.rows:
            table = model.__table__
            for name in ENCRYPTED:
                raw = select(table.c.id, type_coerce(table.c[name], LargeBinary))
                for key, envelope in self.session.execute(raw.where(table.c[name].is_not(None))):
                    yield bytes(envelope), (model, name, key)

    def _overwrite(self, column: Column, key: Any, envelope: bytes) -> None:
        """Behind the library's back: for it, the column of this table is not encrypted."""
        bare = TableClause(
            column.table.name, ColumnClause("id", column.table.c.id.type),
            ColumnClause(column.name, LargeBinary()),
        )  # fmt: skip
        statement = update(bare).where(bare.c.id == key).values({column.name: envelope})
        assert self.session.connection().execute(statement).rowcount == 1

    @property
    def _dialect(self) -> str:
        return self.world.engine.dialect.name

    def _copy(self) -> dict[Any, Rows]:
        return {model: dict(rows) for model, rows in self.rows.items()}

    def _model(self, data: Data, *, filled: bool = False) -> Any:
        models = [model for model, rows in self.rows.items() if rows or not filled]
        return data.draw(st.sampled_from(models))

    def _new_row(self, data: Data) -> Row:
        values = {name: data.draw(cells[name], label=name) for name in ENCRYPTED}
        return Row(f"n{next(self.numbers)}", data.draw(tenants), **values)

    def _new_key(self, data: Data, model: Any, taken: set[Any]) -> Any:
        if isinstance(model.__table__.c.id.type, Uuid):
            return next(self.world.uuids)
        free = [key for key in GIVEN_KEYS if key not in taken]
        return data.draw(st.sampled_from(free)) if free else None

    def _some_keys(self, data: Data, model: Any) -> list[Any]:
        keys = list(self.rows[model])
        if not keys:
            return []
        return data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True))

    def _note(self, model: Any, key: Any, **changes: Any) -> None:
        self.rows[model][key] = self.rows[model][key]._replace(**changes)

    def _flushed(self) -> Session:
        self.session.flush()
        return self.session

    def _execute(self, statement: Any, parameters: Any = None) -> Any:
        """As Core does it."""
        return self._flushed().connection().execute(statement, parameters)

    def _drop(self, model: Any, key: Any) -> None:
        """A row that went away behind the session's back."""
        instance = self.session.identity_map.get(identity_key(model, key))
        if instance is not None:
            self.session.expunge(instance)
        self.session.expire_all()


def upsert(dialect: str, table: Table, names: tuple[str, ...]) -> Any:
    """Set these columns to the new row's, where its key is there already."""
    if dialect in ("mysql", "mariadb"):
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update({each: statement.inserted[each] for each in names})
    other: Any = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    set_ = {each: other.excluded[each] for each in names}
    return other.on_conflict_do_update(index_elements=[table.c.id], set_=set_)


RUN = settings(
    deadline=None,
    derandomize=not SEQUENCES,
    max_examples=SEQUENCES or 12,
    stateful_step_count=60 if SEQUENCES else 25,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink, Phase.reuse] if SEQUENCES else [])],
)


@pytest.mark.timeout(0 if SEQUENCES else 120)
def test_whatever_the_order_every_value_reads_back_sealed_for_its_cell(world):
    """Each operation leaves the state that the next one starts from; no order may lose a value."""
    on_this_database: Any = partial(Sequences, world)
    run_state_machine_as_test(on_this_database, settings=RUN)
