"""Ways past the sealing, and past the binding: each is closed, and each was open once."""

from __future__ import annotations

import datetime
import gc
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    bindparam,
    event,
    func,
    insert,
    lambda_stmt,
    literal,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    EnvelopeError,
    Keyring,
    UnboundValueError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.columns.places import check_places
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.errors import KeyServiceUnavailableError
from sqlalchemy_kmsenv.kms import CountingKms
from tests.conftest import on

CANARY = "PLAINCANARY"


class AddsOne(TypeDecorator[int]):
    """A parameter type of somebody's own."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value + 1


@pytest.fixture
def table(engine, metadata, keyring):
    """Rows 1 and 2, bound to a tenant."""
    table = Table(
        "kmsenv_escapes",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant_id", String(20), key="tenant", nullable=False),
        Column("name", String(20)),
        Column("v_db", Encrypted(String, scope=["tenant"]), key="v"),
        Column("w", Encrypted(String)),
    )
    Table("kmsenv_escapes_other", metadata, Column("id", Integer, primary_key=True),
          Column("tenant", String(20)), Column("w", String(500)))  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": i, "tenant": "t1", "v": f"v{i}", "w": f"w{i}"} for i in (1, 2)]
        connection.execute(insert(table), rows)
    return table


def everything(engine, table):
    """All rows, opened."""
    with engine.connect() as connection:
        query = select(table.c.id, table.c.tenant, table.c.v, table.c.w).order_by(table.c.id)
        return [tuple(row) for row in connection.execute(query)]


BEFORE = [(1, "t1", "v1", "w1"), (2, "t1", "v2", "w2")]


def other_of(table):
    """The plain table, which has columns of the same names."""
    return table.metadata.tables["kmsenv_escapes_other"]


def _update_cte(t):
    return update(t).where(t.c.id == 1).values(tenant="t2").returning(t.c.id).cte()


ESCAPES = {
    "alias": lambda t: update(a := t.alias()).where(a.c.id == 1).values(tenant="t2"),
    "key through an alias": lambda t: update(a := t.alias()).where(a.c.id == 1).values(id=7),
    "function through an alias": lambda t: update(t.alias()).values(w=func.lower(CANARY)),
    "lambda": lambda t: lambda_stmt(lambda: update(t).values(tenant="t2")),
    "function in a lambda": lambda t: lambda_stmt(lambda: update(t).values(w=func.lower("X"))),
    "several tables": lambda t: (
        update(o := other_of(t))
        .where(o.c.id == t.c.id)
        .values({t.c.tenant: "t2", o.c.tenant: "t3"})
    ),
    "function for several tables": lambda t: (
        update(o := other_of(t)).where(o.c.id == t.c.id).values({t.c.w: func.lower(CANARY)})
    ),
    "update in a CTE": lambda t: select(_update_cte(t).c.id),
    "update in an added CTE": lambda t: select(literal(1)).add_cte(_update_cte(t)),
    "function in a CTE": lambda t: select(
        insert(t)
        .values(id=3, tenant="t", w=literal(CANARY.encode(), LargeBinary))
        .returning(t.c.id)
        .cte()
        .c.id
    ),
    "whole row": lambda t: select(t.table_valued()),
    "whole row in a function": lambda t: select(func.row_to_json(t.table_valued())),
}


# What drivers raise for SQL that the database does not have.
NO_SUCH_STATEMENT = (OperationalError, ProgrammingError)


@pytest.mark.parametrize("name", ESCAPES)
def test_no_form_of_statement_moves_a_row_or_stores_plaintext(name, engine, table):
    """What the engine's events do not see as an INSERT or UPDATE of a table is looked through."""
    with engine.connect() as connection:
        with pytest.raises((UnboundValueError, *NO_SUCH_STATEMENT)) as caught:
            connection.execute(ESCAPES[name](table))
        connection.rollback()
    # Where the database has no such statement, it may be the one that refuses.
    if engine.dialect.name == "postgresql":
        assert caught.type is UnboundValueError
    assert CANARY not in str(caught.value) or name.startswith("function")
    assert everything(engine, table) == BEFORE


def test_what_is_read_through_from_statement_and_writes_is_refused(engine, table):
    """The old idiom of an ORM upsert; the ORM's INSERT itself returns entities."""

    class Base(DeclarativeBase):
        metadata = table.metadata

    class Row(Base):
        __table__ = table

    statement = insert(Row).values(id=3, tenant="t", v="x").returning(Row)
    with Session(engine) as session:
        with pytest.raises((UnboundValueError, *NO_SUCH_STATEMENT)):
            session.scalars(select(Row).from_statement(statement)).all()
        session.rollback()
    assert everything(engine, table) == BEFORE


@on("sqlite", "postgresql")
def test_an_upsert_that_copies_rows_does_not_move_them(engine, database, table):
    """INSERT ... SELECT without encrypted columns is let through, its conflicts are not."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
    new = dialect.insert(table).from_select(
        ["id", "tenant"], select(table.c.id, literal("t9")).where(table.c.id > 0)
    )
    statement = new.on_conflict_do_update(index_elements=["id"], set_={"tenant": "t9"})
    with engine.begin() as connection, pytest.raises(UnboundValueError, match="leave that value"):
        connection.execute(statement)
    assert everything(engine, table) == BEFORE


@on("sqlite", "postgresql")
@pytest.mark.parametrize("named", ["v_db", "tenant_id"])
def test_an_upsert_may_name_columns_as_the_database_does(named, engine, database, table):
    """SQLAlchemy warns, and renders it: a plaintext, or a row that moves."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
    new = dialect.insert(table).values(id=1, tenant="t1", v="x", w="y")
    statement = new.on_conflict_do_update(index_elements=["id"], set_={named: CANARY})
    with engine.begin() as connection, pytest.raises(UnboundValueError):
        connection.execute(statement)
    assert everything(engine, table) == BEFORE


@on("sqlite", "postgresql")
def test_an_upsert_without_a_target_or_on_another_key_is_refused(engine, database, metadata):
    """Nothing says that the row which survives has the same primary key."""
    table = Table(
        "kmsenv_escapes_keys",
        metadata,
        Column("id", Integer),
        Column("email", String(20), nullable=False),
        Column("v", Encrypted(String)),
        UniqueConstraint("email", name="kmsenv_escapes_keys_pkey"),
    )
    table.append_constraint(PrimaryKeyConstraint("id", name="kmsenv_escapes_own_name"))
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
    new = dialect.insert(table).values(id=2, email="a", v="x")
    values = {"set_": {"v": new.excluded.v}}
    upserts: list[Any] = []
    if database == "sqlite":
        upserts.append(new.on_conflict_do_update(**values))
    else:
        name = "kmsenv_escapes_keys_pkey"
        upserts.append(new.on_conflict_do_update(constraint=name, **values))
    for statement in upserts:
        with engine.connect() as connection, pytest.raises(UnboundValueError, match="upsert"):
            connection.execute(statement)


@on("sqlite", "postgresql")
def test_excluded_of_another_table_is_not_the_new_row(engine, table, database):
    """An alias may be called as the row that is about to be inserted is."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
    foreign = other_of(table).alias("excluded")
    new = dialect.insert(table).values(id=1, tenant="t1", v="x", w="y")
    statement = new.on_conflict_do_update(index_elements=["id"], set_={"w": foreign.c.w})
    with engine.connect() as connection, pytest.raises(UnboundValueError):
        connection.execute(statement)


@pytest.mark.parametrize("argument", ["default", "onupdate"])
@pytest.mark.parametrize("given", [func.lower(CANARY), text(f"'{CANARY}'"), literal(CANARY)])
def test_a_default_that_the_database_computes_is_refused(argument, given):
    """It would be stored in plaintext."""
    defaults: dict[str, Any] = {argument: given}
    with pytest.raises(ConfigurationError, match=f"{argument}= is an SQL expression") as caught:
        Table(
            "t", MetaData(), Column("id", Integer, primary_key=True),
            Column("v", Encrypted(String), **defaults),
        )  # fmt: skip
    assert CANARY not in str(caught.value)


def test_a_key_over_an_encrypted_column_is_refused():
    """It promises what two envelopes of one value do not keep."""
    for key in (UniqueConstraint("v"), Index("ix", "v")):
        with pytest.raises(ConfigurationError, match="has no effect"):
            Table(
                "t", MetaData(), Column("id", Integer, primary_key=True),
                Column("v", Encrypted(String)), key,
            )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        Encrypted(String).with_variant(String(), "sqlite"),
        String().with_variant(Encrypted(String), "sqlite"),
    ],
)
def test_encryption_is_the_same_on_every_database(kind):
    """A variant would be plaintext on one of them."""
    with pytest.raises(ConfigurationError, match="with_variant"):
        Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", kind))


@pytest.mark.parametrize(
    "kind",
    [
        Uuid().with_variant(String(36), "sqlite"),
        String(20).with_variant(AddsOne(), "sqlite"),
        Date().with_variant(sqlite.DATE(storage_format="%(year)04d/%(month)02d/%(day)02d"), "x"),
        mysql.TINYTEXT(),
    ],
)
def test_a_key_that_is_stored_in_another_way_somewhere_is_refused(kind):
    """Its part would differ between what was sealed and what the database renders."""
    with pytest.raises(ConfigurationError, match="of one kind on every database"):
        Table("t", MetaData(), Column("id", kind, primary_key=True), Column("v", Encrypted(String)))


def test_a_key_that_binary_would_pad_is_refused():
    """BINARY(16) stores zeros behind a shorter value, so that its part would differ."""
    kind = LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")
    table = Table(
        "t", MetaData(), Column("id", kind, primary_key=True), Column("v", Encrypted(String))
    )
    encrypted: Any = table.c.v.type
    (key,) = encrypted.binding.identity

    assert key.parts([b"x" * 16], mysql.dialect()) == [b"b" + b"78" * 16 + b":"]
    with pytest.raises(UnboundValueError, match="pads a shorter value"):
        key.parts([b"x"], mysql.dialect())


def test_an_identity_must_be_unique():
    """Two rows that share it could share their values."""

    def declare(*more: Any, **options: Any) -> MetaData:
        metadata = MetaData()
        Table(
            "t", metadata, Column("id", Integer, primary_key=True),
            Column("a", Integer, nullable=False, **options), Column("b", Integer, nullable=False),
            Column("v", Encrypted(String, identity=["a", "b"])), *more,
        )  # fmt: skip
        attach_keyrings(metadata)
        return metadata

    for more in ((), (UniqueConstraint("a", "id"),), (Index("i", text("lower(a)"), unique=True),)):
        with pytest.raises(ConfigurationError, match="not unique"):
            declare(*more)
    declare(UniqueConstraint("a", "b"))
    declare(Index("ix", "a", unique=True))
    declare(unique=True)


@pytest.mark.parametrize("kind", ["text", "bytes", "uuid", "date"])
@on("sqlite")
def test_rows_that_look_alike_do_not_open_each_other(kind, engine, metadata, keyring):
    """In SQLite 'a' and x'61' are two primary keys; whoever may INSERT could make the twin."""
    types: dict[str, tuple[Any, Any, str]] = {
        "text": (String(20), "alice", "blob"),
        "bytes": (LargeBinary(20), b"alice", "text"),
        "uuid": (Uuid(), uuid.UUID(int=7), "blob"),
        "date": (Date(), datetime.date(2026, 11, 24), "blob"),
    }
    column_type, key, twin = types[kind]
    table = Table(
        "kmsenv_twins", metadata, Column("id", column_type, primary_key=True),
        Column("owner", String(20)), Column("v", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": key, "owner": "alice", "v": "secret of alice"})
        connection.execute(
            text(f"INSERT INTO kmsenv_twins SELECT cast(id AS {twin}), 'mallory', v"
                 " FROM kmsenv_twins")
        )  # fmt: skip
    with engine.connect() as connection:
        query = select(table.c.v).where(table.c.owner == "mallory")
        with pytest.raises(EnvelopeError):
            connection.execute(query).all()
        alice = select(table.c.v).where(table.c.owner == "alice")
        assert connection.scalars(alice).all() == ["secret of alice"]


@pytest.mark.parametrize("stored", ["'text'", "-1", "300000000", "1.5"])
@on("sqlite")
def test_numbers_and_texts_in_a_cell_are_no_envelopes(stored, engine, metadata, keyring):
    """Python would make zero bytes of a number, as many as it says."""
    table = Table(
        "kmsenv_affinity", metadata, Column("id", Integer, primary_key=True),
        Column("v", Encrypted(String, bind="column")),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO kmsenv_affinity VALUES (1, {stored})"))
    with engine.connect() as connection, pytest.raises(EnvelopeError):
        connection.execute(select(table.c.v)).all()


def test_uuids_that_are_text_are_given_as_they_are_stored(engine, metadata, keyring):
    """CHAR(32) keeps the spelling; the native type of a database knows only one."""
    table = Table(
        "kmsenv_text_uuids", metadata, Column("id", Uuid(as_uuid=False), primary_key=True),
        Column("v", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    native = engine.dialect.supports_native_uuid
    usual = str(uuid.UUID("aabbccdd-0000-4000-8000-00000000aaff"))
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": usual, "v": "x"})
        spelled = {"id": usual.upper().replace("FF", "EE"), "v": "y"}
        if native:
            connection.execute(insert(table), spelled)
        else:
            with pytest.raises(UnboundValueError, match="lower-case"):
                connection.execute(insert(table), spelled)
        values = connection.scalars(select(table.c.v)).all()
    assert sorted(values) == (["x", "y"] if native else ["x"])


def test_bytes_that_are_too_long_to_be_stored_name_no_row(engine, metadata, keyring, database):
    """MySQL cuts them where it is not strict, and the value would belong to another key."""
    table = Table(
        "kmsenv_long_bytes", metadata,
        Column("id", LargeBinary().with_variant(mysql.VARBINARY(4), "mysql"), primary_key=True),
        Column("v", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": b"abcd", "v": "x"})
        if database != "sqlite":
            with pytest.raises(UnboundValueError, match="length of 4"):
                connection.execute(insert(table), {"id": b"abcdef", "v": "y"})
        assert connection.scalars(select(table.c.v)).all() == ["x"]


def test_blanks_that_a_char_column_adds_do_not_matter(engine, metadata, keyring):
    """PostgreSQL returns CHAR padded, and a scope is read from the row."""
    table = Table(
        "kmsenv_char_scope", metadata, Column("id", Integer, primary_key=True),
        Column("tenant", CHAR(8), nullable=False),
        Column("v", Encrypted(String, scope=["tenant"])),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"tenant": "abc", "v": "x"})
        connection.execute(update(table).where(table.c.id == 1).values(v="y"))
        assert connection.scalars(select(table.c.v)).all() == ["y"]


def test_a_parameter_with_a_type_of_its_own_names_no_row(engine, table):
    """The database would get another key than the one that was seen."""
    own = bindparam("k", 1, type_=AddsOne())
    with engine.connect() as connection:
        with pytest.raises(UnboundValueError):
            connection.execute(update(table).where(table.c.id == own).values(w="x"))
        with pytest.raises(UnboundValueError):
            connection.execute(insert(table).values(id=literal(5, AddsOne()), tenant="t", w="x"))
    assert everything(engine, table) == BEFORE


def test_a_parameter_typed_as_text_takes_the_envelope(engine, table):
    """What the column is, not what the parameter was declared as, decides how it is sent."""
    statement = update(table).where(table.c.id == 1).values(w=bindparam("p", type_=String))
    with engine.begin() as connection:
        connection.execute(statement, {"p": "new"})
    assert everything(engine, table)[0] == (1, "t1", "v1", "new")


@pytest.mark.parametrize("verb", ["insert", "update"])
def test_what_only_later_rows_of_a_batch_have_is_refused(verb, engine, table):
    """SQLAlchemy goes by the first row; its error about the others would show them."""
    if verb == "insert":
        statement: Any = insert(table)
        rows = [{"id": 5, "tenant": "t", "name": "n"}, {"id": 6, "tenant": "t", "w": CANARY}]
    else:
        statement = update(table).where(table.c.id == bindparam("k"))
        rows = [{"k": 1, "name": "n"}, {"k": 2, "w": CANARY}]
    with engine.connect() as connection, pytest.raises(UnboundValueError) as caught:
        connection.execute(statement, rows)
    assert CANARY not in repr(caught.value)
    assert everything(engine, table) == BEFORE


def test_defaults_see_what_sqlalchemy_shows_them(engine, metadata, keyring):
    """The other values of the row, the column, the engine."""
    seen: list[Any] = []

    def initials(context: Any) -> str:
        seen.append((context.current_column.key, context.isinsert, context.engine is engine))
        return str(context.get_current_parameters()["name"])[:1]

    table = Table(
        "kmsenv_default_context", metadata,
        Column("id", Integer, primary_key=True, autoincrement=False), Column("name", String(20)),
        Column("v", Encrypted(String), default=initials),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(name="written"), {"id": 1})
        connection.execute(insert(table), [{"id": 2, "name": "given"}])
        assert connection.scalars(select(table.c.v).order_by(table.c.id)).all() == ["w", "g"]
    assert seen == [("v", True, True)] * 2


def test_a_column_in_the_place_of_another_is_bound_anew(engine, keyring):
    """Reflection first, the encrypted type afterwards."""
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", LargeBinary))
    attach_keyrings(metadata, default=keyring)
    Table("t", metadata, Column("v", Encrypted(String)), extend_existing=True)
    assert list(table.metadata.tables) == ["t"]
    first = encrypted_columns(table)["v"].values
    Table("t", metadata, Column("v", Encrypted(Integer)), extend_existing=True)
    assert encrypted_columns(table)["v"].values is not first


class Generated(DeclarativeBase):
    pass


class Note(Generated):
    """Its key is the server's, on PostgreSQL too only afterwards."""

    __tablename__ = "kmsenv_late_notes"
    id = mapped_column(Integer, Identity(always=True), primary_key=True)
    tenant = mapped_column(String(20), nullable=False, default="t1")
    code = mapped_column(String(20), unique=True)
    body = mapped_column(Encrypted(String, scope=["tenant"]))


class Audit(Generated):
    __tablename__ = "kmsenv_late_audit"
    id = mapped_column(Integer, primary_key=True)
    note_id = mapped_column(ForeignKey(Note.id))
    what = mapped_column(Encrypted(String))


NOTES: Any = Note.__table__
AUDIT: Any = Audit.__table__


@pytest.fixture
def late(engine, keyring):
    """Three notes, sealed after their INSERT."""
    attach_keyrings(Generated.metadata, default=keyring)
    Generated.metadata.drop_all(engine)
    Generated.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(3):
            session.add(Note(body=f"note {number}"))
            session.flush()
        session.commit()
    yield engine
    Generated.metadata.drop_all(engine)


def bodies(engine):
    """What is committed, in the order of the keys."""
    with Session(engine) as session:
        return list(session.scalars(select(Note.body).order_by(Note.id)))


@pytest.mark.parametrize("plain", [True, False])
def test_an_insert_inside_of_another_one_keeps_its_own_rows(plain, late):
    """Audit trails and ticket tables are written from hooks, on the same connection."""

    @event.listens_for(late, "before_cursor_execute")
    def audit(connection, _, statement, *__):
        if f"INTO {Note.__tablename__}" in statement:
            if plain:
                connection.execute(insert(AUDIT).values(note_id=None))
            else:
                connection.execute(insert(AUDIT).values(what="trail"))

    try:
        with Session(late) as session:
            session.add(Note(body="by the ORM"))
            session.commit()
        with late.begin() as connection:
            connection.execute(insert(NOTES).values(body="by Core"))
    finally:
        event.remove(late, "before_cursor_execute", audit)
    assert bodies(late) == ["note 0", "note 1", "note 2", "by the ORM", "by Core"]
    with Session(late) as session:
        trail = session.scalars(select(Audit.what)).all()
    assert trail == ([None, None] if plain else ["trail", "trail"])


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"body": "later"}, "later"),
        ({"body": None}, None),
        ({"tenant": "t2", "body": "moved"}, "moved"),
    ],
)
def test_what_a_hook_writes_behind_an_insert_stays(values, kept, late):
    """The late UPDATE must not bring back what was there before."""

    @event.listens_for(Note, "after_insert")
    def write(_, connection, target):
        table = NOTES
        connection.execute(update(table).where(table.c.id == target.id).values(**values))

    try:
        with Session(late) as session:
            session.add_all([Note(body="draft"), Note(body="draft")])
            session.commit()
    finally:
        event.remove(Note, "after_insert", write)
    assert bodies(late)[3:] == [kept, kept]


def test_an_insert_whose_event_failed_is_not_committed_empty(late):
    """The row is there: another listener raised, and the application went on."""

    @event.listens_for(late, "after_cursor_execute")
    def fail(_, __, statement, *___):
        if f"INTO {Note.__tablename__}" in statement:
            raise LookupError

    try:
        with late.connect() as connection:
            with pytest.raises(LookupError):
                connection.execute(insert(NOTES).values(body="x"))
            with pytest.raises(UnboundValueError, match="rolled back instead of committed"):
                connection.commit()
    finally:
        event.remove(late, "after_cursor_execute", fail)
    assert bodies(late) == ["note 0", "note 1", "note 2"]


def test_an_insert_that_the_database_refused_leaves_nothing_to_seal(late, database):
    """A caught error, as of a foreign key, is no reason to refuse the rest."""
    with Session(late) as session:
        session.add(Note(body="before", code="taken"))
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.connection().execute(insert(NOTES).values(body="x", code="taken"))
        session.commit()
    assert bodies(late)[3:] == ["before"]


def test_a_connection_that_was_dropped_without_a_word_is_clean_for_the_next(late):
    """The pool rolls it back; what the next one commits is no matter of those rows."""

    def fail(*_: Any) -> None:
        raise LookupError

    event.listen(late, "after_cursor_execute", fail)
    connection = late.connect()
    with pytest.raises(LookupError):
        connection.execute(insert(NOTES).values(body="x"))
    event.remove(late, "after_cursor_execute", fail)
    known = id(connection.connection.dbapi_connection)
    del connection
    gc.collect()
    with late.connect() as connection:
        assert id(connection.connection.dbapi_connection) == known
        connection.execute(select(literal(1)))
        connection.commit()
    assert bodies(late) == ["note 0", "note 1", "note 2"]


@on("mariadb")
def test_two_phases_in_one_are_not_committed_unsealed(late, local_kms):
    """COMMIT of a two-phase transaction that was never prepared."""

    class Down(CountingKms):
        def generate_data_key(self, context: Any) -> Any:
            raise KeyServiceUnavailableError("down")

    attach_keyrings(Generated.metadata, default=Keyring(Down(local_kms)))
    with late.connect() as connection:
        transaction = connection.begin_twophase()
        with pytest.raises(KeyServiceUnavailableError):
            connection.execute(insert(NOTES).values(body="x"))
        with pytest.raises(UnboundValueError, match="neither prepared nor committed"):
            transaction.commit()
        transaction.rollback()
    with late.connect() as connection:
        raw = select(type_coerce(Note.body, LargeBinary)).where(Note.id > 3)
        assert connection.execute(raw).all() == []


def test_a_lost_connection_is_rolled_back_as_ever(late):
    """With plain tables, with encrypted ones, in a savepoint, in a session."""
    with late.connect() as connection:
        transaction = connection.begin()
        connection.execute(select(literal(1)))
        nested = connection.begin_nested()
        connection.invalidate()
        nested.rollback()
        transaction.rollback()
        assert connection.execute(select(literal(1))).scalar() == 1
    with Session(late) as session:
        session.add(Note(body="lost"))
        session.flush()
        session.connection().invalidate()
        session.rollback()
        session.add(Note(body="found"))
        session.commit()
    assert bodies(late)[3:] == ["found"]


def test_the_key_beside_a_value_is_the_one_of_its_own_alias(late):
    """A subquery over two aliases carries two keys; a wrong one is a false alarm of tampering."""
    one, two = Note.__table__.alias("one"), Note.__table__.alias("two")
    both = select(
        one.c.id, one.c.tenant, one.c.body,
        two.c.id.label("two_id"), two.c.tenant.label("two_tenant"), two.c.body.label("two_body"),
    ).where(two.c.id == one.c.id + 1)  # fmt: skip
    inner = both.subquery()
    with late.connect() as connection:
        found = connection.execute(
            select(inner.c.body, inner.c.two_body).order_by(inner.c.id)
        ).all()
        assert [tuple(row) for row in found] == [("note 0", "note 1"), ("note 1", "note 2")]
        lacking = select(one.c.id, one.c.tenant, two.c.body).where(two.c.id == one.c.id + 1)
        with pytest.raises(UnboundValueError, match="does not carry"):
            connection.execute(select(lacking.subquery().c.body))


def test_looking_through_nested_queries_takes_no_longer_than_they_are_long(late):
    """Each level names the one before twice; the walk goes into each once."""
    level = select(Note.__table__.c.id).cte()
    for _ in range(14):
        again = level.alias()
        level = (
            select(level.c.id)
            .join(again, again.c.id == level.c.id)
            .where(level.c.id.in_(select(again.c.id)))
            .cte()
        )
    statement = select(level.c.id).order_by(level.c.id)
    done = threading.Event()

    def look() -> None:
        check_places(statement)
        done.set()

    # A walk that doubles with each level would take hours.
    threading.Thread(target=look, daemon=True).start()
    assert done.wait(60)
