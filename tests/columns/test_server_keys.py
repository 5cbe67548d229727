"""Rows whose key the server generates: taken ahead, or sealed in the transaction of the INSERT."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Computed,
    DateTime,
    Identity,
    Insert,
    Integer,
    LargeBinary,
    Sequence,
    String,
    Table,
    Uuid,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import (
    Encrypted,
    EnvelopeError,
    KmsEnvError,
    UnboundValueError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.columns.transactions import open_savepoints
from tests.columns import killed_flush
from tests.conftest import DATABASES, on, second_schema


def statements(engine):
    """The statements that reach the driver, as verb and number of parameter sets."""
    seen = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_, __, statement, parameters, ___, many):
        seen.append((statement.split()[0], len(parameters) if many else 1))

    return seen


@pytest.fixture
def notes(engine, keyring):
    """A class with an autoincrement key, two encrypted columns and one that is bound to a scope."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_notes"
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(String(40), unique=True)
        tenant = mapped_column(String(40), nullable=False, server_default="t1")
        updated = mapped_column(Integer, default=1, onupdate=2)
        text = mapped_column(Encrypted(String), nullable=False)
        more = mapped_column(Encrypted(JSON))
        scoped = mapped_column(Encrypted(String, scope=["tenant"]))

    attach_keyrings(Base.metadata, default=keyring)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Base=Base, Note=Note, table=Note.__table__)
    Base.metadata.drop_all(engine)


def rows_of(connection, table):
    """Every row by its name, values opened."""
    query = select(table.c.name, table.c.text, table.c.more, table.c.scoped)
    return {row.name: tuple(row[1:]) for row in connection.execute(query)}


def empty_cells(connection, table):
    """How many cells were left unsealed."""
    raw = [type_coerce(c, LargeBinary) for c in (table.c.text, table.c.more, table.c.scoped)]
    return sum(
        cell is not None and not cell for row in connection.execute(select(*raw)) for cell in row
    )


def test_a_flush_takes_few_statements_and_every_row_opens(notes, engine, database, kms):
    """PostgreSQL: one query for the keys. Elsewhere: one UPDATE batch for each set of columns."""
    Note = notes.Note
    seen = statements(engine)
    with Session(engine) as session, kms.expect(generate_data_key=1):
        session.add_all([Note(name=f"n{i}", text=f"text {i}") for i in range(50)])
        session.commit()
    verbs = [verb for verb, _ in seen]
    if database == "postgresql":
        assert verbs == ["SELECT", "INSERT"]
    else:
        # MariaDB: all rows in one statement. SQLite: a set of parameters for each.
        assert seen[-1] == ("UPDATE", 50 if database == "sqlite" else 1)
        assert verbs.count("UPDATE") == 1
        assert verbs[:-1] == ["INSERT"] * (50 if database == "sqlite" else 1)
    with Session(engine) as session:
        found = {note.name: (note.text, note.updated) for note in session.scalars(select(Note))}
    assert found == {f"n{i}": (f"text {i}", 1) for i in range(50)}


@on("sqlite")
def test_a_row_that_a_trigger_takes_away_is_told_of(notes, engine):
    """Its scope is not known any more, and no other row's may stand in for it."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER kmsenv_gone AFTER INSERT ON kmsenv_notes WHEN NEW.name = 'b'"
            " BEGIN DELETE FROM kmsenv_notes WHERE id = NEW.id; END"
        )
    with Session(engine) as session:
        session.add_all([notes.Note(name=name, text="1", scoped="s") for name in "ab"])
        with pytest.raises(UnboundValueError, match="cannot be read back, so their tenant is not"):
            session.flush()
        session.rollback()
    with engine.connect() as connection:
        assert rows_of(connection, notes.table) == {}


def test_rows_that_write_different_columns_are_sealed_together(notes, engine, keyring):
    """What a flush left open is sealed for the right rows, a server-made scope included."""
    Note = notes.Note
    with Session(engine) as session:
        session.add_all([
            Note(name="a", text="1"),
            Note(name="b", text="2", more={"k": 1}),
            Note(name="c", text="3", scoped="s"),
            Note(name="d", text="4", scoped="s", tenant="t2"),
            Note(name="e", text="5", more=None),
        ])  # fmt: skip
        session.flush()
        session.add(Note(name="f", text="6"))
        session.commit()
        assert rows_of(session, notes.table) == {
            "a": ("1", None, None), "b": ("2", {"k": 1}, None), "c": ("3", None, "s"),
            "d": ("4", None, "s"), "e": ("5", None, None), "f": ("6", None, None),
        }  # fmt: skip


@pytest.mark.parametrize("how", ["values", "parameters", "one in a list", "batch", "orm", "bulk"])
def test_core_inserts_get_their_keys_too(how, notes, engine, database):
    """One row, and many wherever RETURNING gives the keys."""
    table, given = notes.table, [{"name": f"n{i}", "text": f"text {i}"} for i in range(3)]
    expected = 3 if how in ("batch", "orm", "bulk") else 1
    with Session(engine) as session:
        connection = session.connection()
        if how == "values":
            result = connection.execute(insert(table).values(given[0]))
        elif how == "parameters":
            result = connection.execute(insert(table), given[0])
        elif how == "one in a list":
            result = connection.execute(insert(table), given[:1])
        elif how == "batch":
            connection.execute(insert(table), given)
        elif how == "orm":
            session.execute(insert(notes.Note), given)
        else:
            session.bulk_insert_mappings(notes.Note, given)
        if expected == 1:
            assert result.inserted_primary_key is not None
            [key] = result.inserted_primary_key
            assert session.scalar(select(table.c.text).where(table.c.id == key)) == "text 0"
        session.commit()
        rows = rows_of(session, table)
    assert rows == {f"n{i}": (f"text {i}", None, None) for i in range(expected)}


def test_values_with_many_rows_and_returning_work_where_keys_are_taken_ahead(
    notes, engine, database
):
    """PostgreSQL takes the keys first; elsewhere the refusal says what to do."""
    table, given = notes.table, [{"name": f"n{i}", "text": f"text {i}"} for i in range(3)]
    inline = insert(table).values(given)
    returning = insert(table).returning(table.c.id, table.c.name, table.c.text)
    with engine.begin() as connection:
        if database == "postgresql":
            connection.execute(inline)
            assert connection.scalars(select(table.c.text).order_by("id")).all() == [
                "text 0", "text 1", "text 2",
            ]  # fmt: skip
            others = [{"name": f"m{i}", "text": f"more {i}"} for i in range(3)]
            rows = connection.execute(returning, others).all()
            assert sorted(row.text for row in rows) == ["more 0", "more 1", "more 2"]
            return
        with pytest.raises(UnboundValueError, match="as its parameters"):
            connection.execute(inline)
        assert rows_of(connection, table) == {}


def test_what_skips_a_row_leaves_the_one_that_is_there(notes, engine, database):
    """A row that was not inserted has no key, and the last one that was is another's."""
    table = notes.table
    if database == "postgresql":
        statement: Insert = postgresql.insert(table).on_conflict_do_nothing()
    elif database == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing()
    else:
        statement = insert(table).prefix_with("IGNORE")
    with warnings.catch_warnings(), engine.begin() as connection:
        warnings.simplefilter("ignore")  # PyMySQL's, of the duplicate.
        connection.execute(insert(table), {"name": "a", "text": "first"})
        connection.execute(statement, [{"name": "a", "text": "x"}])
        assert rows_of(connection, table) == {"a": ("first", None, None)}


def test_autocommit_is_refused_where_a_row_could_stay_without_its_value(notes, engine, database):
    """Each statement would be committed alone; PostgreSQL needs only one."""
    table = notes.table
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if database == "postgresql":
            connection.execute(insert(table), {"name": "a", "text": "x"})
            assert rows_of(connection, table) == {"a": ("x", None, None)}
            return
        with pytest.raises(UnboundValueError, match="begin a transaction"):
            connection.execute(insert(table), {"name": "a", "text": "x"})
        connection.execute(insert(table), {"id": 7, "name": "a", "text": "x"})
        assert rows_of(connection, table) == {"a": ("x", None, None)}


@pytest.mark.parametrize(("database", "key"), [
    *[("postgresql", key) for key in ("identity", "always", "sequence", "uuid")],
    *itertools.product(DATABASES, ("big", "explicit none")),
], indirect=["database"])  # fmt: skip
def test_every_kind_of_generated_key(key, metadata, engine, database, keyring):
    """IDENTITY BY DEFAULT, IDENTITY ALWAYS, a Sequence, a server default."""
    columns = {
        "identity": lambda: Column("id", Integer, Identity(), primary_key=True),
        "always": lambda: Column("id", Integer, Identity(always=True), primary_key=True),
        "sequence": lambda: Column("id", Integer, Sequence("kmsenv_seq", start=70),
                                   primary_key=True),
        "big": lambda: Column("id", BigInteger().with_variant(Integer, "sqlite"),
                              primary_key=True),
        "uuid": lambda: Column("id", Uuid, primary_key=True,
                               server_default=text("gen_random_uuid()")),
        "explicit none": lambda: Column("id", Integer, primary_key=True),
    }  # fmt: skip
    table = Table(
        'Kmsenv "keys"', metadata, columns[key](),
        Column("name", String(20)), Column("v", Encrypted(String), nullable=False),
    )  # fmt: skip
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    seen = statements(engine)
    rows: list[dict[str, str | None]] = [{"name": f"n{i}", "v": f"v{i}"} for i in range(10)]
    if key == "explicit none":
        rows = [{"name": row["name"], "v": row["v"], "id": None} for row in rows]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    verbs = [verb for verb, _ in seen]
    ahead = database == "postgresql" and key not in ("always", "uuid")
    assert verbs.count("UPDATE") == (0 if ahead else 1)
    assert verbs.count("SELECT") == (1 if ahead else 0)
    with engine.connect() as connection:
        found = connection.execute(select(table).order_by(table.c.name)).all()
    assert [(row.name, row.v) for row in found] == [(f"n{i}", f"v{i}") for i in range(10)]
    assert min(row.id for row in found) == 70 if key == "sequence" else True


@on("postgresql", "mariadb")
def test_schema_translate_map_reaches_every_statement(metadata, engine, database, keyring):
    """The keys come from the sequence of the translated table, and the UPDATE goes there."""
    table = Table(
        "kmsenv_translated", metadata, Column("id", Integer, primary_key=True),
        Column("v", Encrypted(String), nullable=False), schema="per_tenant",
    )  # fmt: skip
    attach_keyrings(metadata, keyring)
    schema = second_schema("kmsenv_tenant")
    with engine.begin() as connection:
        connection.execute(
            text(
                f"DROP SCHEMA IF EXISTS {schema}" + (" CASCADE" if database == "postgresql" else "")
            )
        )
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    translated = engine.execution_options(schema_translate_map={"per_tenant": schema})
    try:
        with translated.begin() as connection:
            table.create(connection)
            connection.execute(insert(table), [{"v": "a"}, {"v": "b"}])
            connection.execute(insert(table), {"v": "c"})
        with translated.connect() as connection:
            assert connection.scalars(select(table.c.v).order_by(table.c.id)).all() == [
                "a", "b", "c",
            ]  # fmt: skip
    finally:
        with engine.begin() as connection:
            connection.execute(
                text(f"DROP SCHEMA {schema}" + (" CASCADE" if database == "postgresql" else ""))
            )
        metadata.remove(table)


@on("sqlite", "mariadb")
def test_rows_that_could_not_be_sealed_are_never_committed(notes, engine, database, local_kms):
    """Whoever catches the error and commits all the same is stopped."""
    table = notes.table
    local_kms.disable()
    with engine.connect() as connection:
        with pytest.raises(KmsEnvError):
            connection.execute(insert(table), {"name": "a", "text": "x"})
        with pytest.raises(UnboundValueError, match="rolled back instead"):
            connection.commit()
        connection.rollback()
        with connection.begin_nested() as savepoint:
            with pytest.raises(KmsEnvError):
                connection.execute(insert(table), {"name": "a", "text": "x"})
            savepoint.rollback()
        assert open_savepoints(connection) == frozenset()
        outer = connection.begin_nested()
        with connection.begin_nested(), pytest.raises(KmsEnvError):
            connection.execute(insert(table), {"name": "a", "text": "x"})
        assert len(open_savepoints(connection)) == 1
        outer.rollback()
        connection.commit()
        assert rows_of(connection, table) == {}
    local_kms.enable()
    with Session(engine) as session:
        session.add(notes.Note(name="a", text="x"))
        session.commit()
        assert rows_of(session, table) == {"a": ("x", None, None)}


def test_a_session_stops_likewise_and_goes_on_after_a_rollback(notes, engine, database, local_kms):
    """The flush fails as a whole, and a retry with the same objects works."""
    local_kms.disable()
    with Session(engine) as session:
        session.add_all([notes.Note(name="a", text="x"), notes.Note(name="b", text="y")])
        with pytest.raises(KmsEnvError):
            session.commit()
        session.rollback()
        local_kms.enable()
        session.add_all([notes.Note(name="a", text="x"), notes.Note(name="b", text="y")])
        session.commit()
        assert set(rows_of(session, notes.table)) == {"a", "b"}


def test_a_failed_insert_leaves_the_transaction_usable(notes, engine, database):
    """A duplicate in a savepoint, or a caught one where the database goes on."""
    table = notes.table
    with engine.begin() as connection:
        connection.execute(insert(table), {"name": "a", "text": "x"})
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(
                insert(table), [{"name": "b", "text": "x"}, {"name": "a", "text": "x"}]
            )
        if database != "postgresql":
            with pytest.raises(IntegrityError):
                connection.execute(insert(table), {"name": "a", "text": "x"})
        connection.execute(insert(table), {"name": "c", "text": "z"})
    with engine.connect() as connection:
        assert set(rows_of(connection, table)) == {"a", "c"}


@on("sqlite")
def test_a_row_that_cannot_be_updated_is_an_error(notes, engine, database):
    """A trigger that keeps the UPDATE from the row must not leave it empty."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER hide BEFORE UPDATE ON kmsenv_notes BEGIN SELECT RAISE(IGNORE); END"
        )
    with engine.connect() as connection:
        with pytest.raises(UnboundValueError, match="0 of them could be updated"):
            connection.execute(insert(notes.table), {"name": "a", "text": "x"})
        with pytest.raises(UnboundValueError, match="rolled back instead"):
            connection.commit()


def test_the_rest_of_the_row_is_as_it_was_inserted(metadata, engine, database, keyring):
    """Sealing a row is no change of it: no onupdate, no ON UPDATE CURRENT_TIMESTAMP."""
    changed = Column("changed", DateTime)
    if database == "mariadb":
        changed = Column(
            "changed", mysql.DATETIME(),
            server_default=text("NULL ON UPDATE CURRENT_TIMESTAMP"), server_onupdate=func.now(),
        )  # fmt: skip
    table = Table(
        "kmsenv_changed", metadata, Column("id", Integer, primary_key=True),
        Column("v", Encrypted(String)), Column("n", Integer, default=1, onupdate=2), changed,
    )  # fmt: skip
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"v": "x"})
        assert connection.execute(select(table)).one() == (1, "x", 1, None)
        connection.execute(update(table).where(table.c.id == 1).values(v="y"))
        assert connection.execute(select(table.c.n)).scalar() == 2


@on("sqlite", "mariadb")
def test_within_the_flush_an_unsealed_cell_is_an_error_and_not_a_value(notes, engine, database):
    """Somebody's after_insert hook that reads too early does not get None."""

    @event.listens_for(notes.Note, "after_insert")
    def read(_, connection, target):
        with pytest.raises(EnvelopeError):
            connection.execute(
                select(notes.table.c.text).where(notes.table.c.id == target.id)
            ).all()

    with Session(engine) as session:
        session.add(notes.Note(name="a", text="x"))
        session.commit()
        assert rows_of(session, notes.table) == {"a": ("x", None, None)}


@on("sqlite", "mariadb")
def test_without_returning_the_keys_come_one_by_one(notes, engine, database):
    """What MySQL does: each INSERT tells its own key, and the flush still seals in batches."""
    plain = create_engine(engine.url, use_insertmanyvalues=False)
    seen = statements(plain)
    with Session(plain) as session:
        session.add_all([notes.Note(name=f"n{i}", text=f"text {i}") for i in range(5)])
        session.commit()
    assert seen == [("INSERT", 1)] * 5 + [("UPDATE", 1 if database == "mariadb" else 5)]
    with plain.connect() as connection:
        with pytest.raises(UnboundValueError, match="one by one"):
            connection.execute(insert(notes.table), [{"text": "x"}, {"text": "y"}])
        assert rows_of(connection, notes.table) == {
            f"n{i}": (f"text {i}", None, None) for i in range(5)
        }
    plain.dispose()


def test_a_flush_that_is_killed_at_any_point_leaves_no_row_without_its_value(
    engine, keyring, local_kms, tmp_path
):
    """Before and after each statement, and around the COMMIT."""
    metadata = killed_flush.Base.metadata
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    command = [
        sys.executable, "-m", "tests.columns.killed_flush",
        engine.url.render_as_string(hide_password=False), str(tmp_path / "keys.json"), "18",
    ]  # fmt: skip
    ends = json.loads(subprocess.check_output(command, timeout=60))
    assert set(ends) == {0, -signal.SIGKILL}
    assert ends[0] == -signal.SIGKILL
    last = ends.index(0)
    assert last > 8, "the points are those of both flushes"
    Note = killed_flush.Note
    with Session(engine) as session:
        notes = session.scalars(select(Note).order_by(Note.id)).all()
        survivors = {note.point for note in notes}
        assert survivors == set(range(last - 1, 18)), "what was committed, and no more"
        for point in survivors:
            texts = sorted((note.text, note.more) for note in notes if note.point == point)
            assert texts == [(f"text {i}", [i] if i % 2 or i == 4 else None) for i in range(5)]
    metadata.drop_all(engine)


def test_a_table_with_a_generated_column_takes_rows(engine, metadata, keyring):
    """No statement may set such a column, and the UPDATE after the INSERT must not try to."""
    table = Table(
        "kmsenv_generated",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("price", Integer),
        Column("double", Integer, Computed("price * 2", persisted=True)),
        Column("text", Encrypted(String)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)

    with engine.begin() as connection:
        connection.execute(insert(table).values(price=4, text="a"))
        connection.execute(insert(table), [{"price": n, "text": f"b{n}"} for n in range(3)])
        found = connection.execute(select(table.c.double, table.c.text)).all()

    assert sorted(found) == [(0, "b0"), (2, "b1"), (4, "b2"), (8, "a")]
