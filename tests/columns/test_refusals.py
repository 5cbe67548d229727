"""What cannot be bound fails closed, with words that say which way works."""

import pickle

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    CHAR,
    JSON,
    Column,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    case,
    create_engine,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mssql, mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, mapped_column

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, UnboundValueError, attach_keyrings
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from tests.columns.conftest import overwrite


def a_table(metadata, *columns, name="t"):
    """A table with an integer key and these columns."""
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns)


def integers(number, **arguments):
    """So many columns of integers."""
    return [Column(f"k{i}", Integer, **arguments) for i in range(number)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scope": "tenant"}, "list"),
        ({"scope": []}, "scope"),
        ({"scope": ["a", "a"]}, "twice"),
        ({"identity": "id"}, "identity"),
        ({"bind": "table"}, "bind"),
        ({"bind": "column", "scope": "row"}, "gives up the row"),
        ({"bind": "column", "identity": ["id"]}, "gives up the row"),
        ({"name": "position"}, "logical"),
        ({"pad_to": 0}, "pad_to"),
        ({"pad_to": True}, "pad_to"),
        ({"pad_to": (1 << 20) + 1}, "from 1 to 1,048,576"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_at_once(arguments, words):
    """The developer sees it when the module is imported."""
    with pytest.raises(ConfigurationError, match=words):
        Encrypted(String, **arguments)


@pytest.mark.parametrize("pad_to", [None, 1, 1 << 20])
def test_padding_is_taken_up_to_its_bounds(pad_to):
    """A megabyte is the longest."""
    assert Encrypted(String, pad_to=pad_to).pad_to == pad_to


def test_what_is_attached_is_a_keyring_and_what_it_replaces_forgets(keyring):
    """A URI in its place would fail at the first row; a replaced key must not stay in memory."""
    metadata = MetaData()
    with pytest.raises(
        ConfigurationError, match=r"attach_keyrings\(pii=...\) takes a Keyring, got"
    ):
        attach_keyrings(metadata, keyring, pii="local:///k.json")  # type: ignore[arg-type]
    attach_keyrings(metadata, default=keyring)
    keyring.seal_many((("a", "b"),), 2, b"", [b"i1:"], [b"x"])
    attach_keyrings(metadata, default=keyring)
    assert keyring.stats().held_for_sealing == 1
    attach_keyrings(metadata, default=keyring.twin(lambda kms: kms))
    assert keyring.stats().held_for_sealing == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([Column("v", Encrypted(String), primary_key=True)], "primary key"),
        ([Column("v", Encrypted(String), ForeignKey("x.id"))], "foreign key"),
        ([Column("v", Encrypted(String), unique=True)], "unique"),
        ([Column("v", Encrypted(String), index=True)], "index"),
        ([Column("v", Encrypted(String), server_default="x")], "plaintext"),
        ([Column("v", Encrypted(String, scope=["absent"]))], "does not exist"),
        ([Column("s", String), Column("v", Encrypted(String, scope=["s"]))], "nullable"),
        ([Column("s", Float, nullable=False), Column("v", Encrypted(String, identity=["s"]))],
         "Float"),
        ([Column("s", Interval, nullable=False), Column("v", Encrypted(String, identity=["s"]))],
         "Interval"),
        ([Column("s", Encrypted(String), nullable=False),
          Column("v", Encrypted(String, identity=["s"]))], "Encrypted"),
        ([Column("v", Encrypted(postgresql.TSVECTOR))], "TSVECTOR"),
        ([Column("v", Encrypted(String, name="t." + "v" * 65_536))], "65,535 bytes"),
        ([Column("v", Encrypted(String, name="\u00e9" * 32_768 + ".v"))], "65,535 bytes"),
        ([*integers(255, primary_key=True),
          Column("v", Encrypted(String))], "255 columns"),
        ([*integers(256, nullable=False),
          Column("v", Encrypted(String, scope=[f"k{i}" for i in range(256)]))], "255 columns"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_bound_is_refused_when_it_is_defined(columns, words, keyring):
    """Before the first row is written, with what to change."""
    metadata = MetaData()
    attach_keyrings(metadata, default=keyring)
    with pytest.raises(ConfigurationError, match=words):
        a_table(metadata, *columns)
    assert not metadata.tables


def test_a_table_without_a_name_is_refused(keyring):
    """Associated data tells tables apart by their names (FORMAT.md, 4.2)."""
    metadata = MetaData()
    attach_keyrings(metadata, default=keyring)
    with pytest.raises(ConfigurationError, match="1 to 65,535 bytes"):
        a_table(metadata, Column("v", Encrypted(String)), name="")


def test_a_model_whose_table_lacks_what_it_is_bound_to_is_refused_when_it_is_mapped():
    """Also before any keyring is attached."""

    class Model(DeclarativeBase):
        pass

    members = {
        "__tablename__": "t",
        "id": mapped_column(Integer, primary_key=True),
        "v": mapped_column(Encrypted(String, scope=["absent"])),
    }
    with pytest.raises(ConfigurationError, match="absent"):
        type("Ping", (Model,), members)


def test_a_table_that_lacks_its_key_is_refused_when_it_is_created_or_gets_its_keyrings(keyring):
    """A Core table without a mapper is looked at there at the latest."""
    metadata = MetaData()
    Table("t", metadata, Column("v", Encrypted(String)))
    with pytest.raises(ConfigurationError, match="no primary key"):
        metadata.create_all(create_engine("sqlite://"))
    with pytest.raises(ConfigurationError, match="no primary key"):
        attach_keyrings(metadata, default=keyring)


def test_alembic_creates_tables_and_adds_columns_of_the_type():
    """It puts tables together in pieces, which must not be taken for models."""
    with create_engine("sqlite://").begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.create_table(
            "t", Column("id", Integer), Column("v", Encrypted(String)), PrimaryKeyConstraint("id")
        )
        op.add_column("t", Column("w", Encrypted(JSON, scope=["tenant"])))
        names = [column["name"] for column in inspect(connection).get_columns("t")]
    assert names == ["id", "v", "w"]


def test_a_key_of_another_type_is_refused():
    """A value cannot be bound to what Python and the database write differently."""
    with pytest.raises(ConfigurationError, match="Float"):
        Table(
            "t",
            MetaData(),
            Column("at", Float, primary_key=True),
            Column("v", Encrypted(String)),
        )


def test_two_columns_of_one_logical_name_are_refused():
    """Their values could be swapped."""
    metadata = MetaData()
    a_table(metadata, Column("v", Encrypted(String, name="logical.v")))
    with pytest.raises(ConfigurationError, match=r"logical\.v"):
        a_table(metadata, Column("w", Encrypted(String, name="logical.v")), name="u")
    with pytest.raises(ConfigurationError, match=r"logical\.v"):
        a_table(metadata, Column("logical.v", Encrypted(String, name="logical.v")), name="x")


def test_two_columns_of_one_table_and_one_logical_name_are_refused():
    """The pinned name of one may be the usual name of the other, of whichever comes first."""
    pinned = Encrypted(String, name="t.v")
    for types in ([Encrypted(String), pinned], [pinned, Encrypted(String)], [pinned, pinned]):
        with pytest.raises(ConfigurationError, match=r"'t\.v'.*swapped"):
            a_table(
                MetaData(),
                Column("v" if types[0].name is None else "w", types[0]),
                Column("v" if types[1].name is None else "x", types[1]),
            )


def test_a_column_that_joins_later_may_not_share_a_name(keyring):
    """Packages add columns to tables that are in use already."""
    metadata = MetaData()
    table = a_table(metadata, Column("v", Encrypted(String)))
    other = a_table(metadata, Column("w", String(9)), name="u")
    attach_keyrings(metadata, keyring)
    for target in (table, other):
        with pytest.raises(ConfigurationError, match=r"t\.v"):
            target.append_column(Column("x", Encrypted(String, name="t.v")))
    # The column itself may be defined anew, and take its name along where its table is gone.
    table.append_column(Column("v", Encrypted(String)), replace_existing=True)
    metadata.remove(table)
    a_table(metadata, Column("x", Encrypted(String, name="t.v")), name="y")


def test_a_name_is_free_again_where_a_definition_failed():
    """Whoever corrects a model in a notebook is not told of the one that was refused."""
    metadata = MetaData()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="server default"):
            a_table(metadata, Column("v", Encrypted(String), server_default="x"))
    assert a_table(metadata, Column("w", Encrypted(String, name="t.v")), name="u") is not None


def test_without_a_keyring_nothing_is_written_or_read(keyring):
    """The error says which call is missing."""
    metadata = MetaData()
    table = a_table(metadata, Column("v", Encrypted(String, keyring="pii")))
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection:
        with pytest.raises(ConfigurationError, match="attach_keyrings"):
            connection.execute(insert(table), {"id": 1, "v": "x"})
        attach_keyrings(metadata, pii=keyring)
        connection.execute(insert(table), {"id": 1, "v": "x"})
        attached_keyrings(metadata).clear()
        with pytest.raises(ConfigurationError, match="attach_keyrings"):
            connection.execute(select(table.c.v)).all()


def upsert(table, database):
    """The upsert of each dialect, setting an encrypted column."""
    values = {"id": 1, "note": "x"}
    if database == "mariadb":
        return mysql.insert(table).values(values).on_duplicate_key_update(note=func.lower("x"))
    dialect = postgresql if database == "postgresql" else sqlite
    insertion = dialect.insert(table).values(values)
    return insertion.on_conflict_do_update(index_elements=["id"], set_={"note": func.lower("x")})


def refused_statements(models):
    """Statements that give a plaintext or ask for a comparison, by name."""
    Ping, table = models.Ping, models.table
    return {
        "server key": insert(table).values(note="x"),
        "many inline rows": insert(table).values([{"id": 1, "note": table.c.plain}]),
        "from select": insert(table).from_select(["id", "note"], select(table.c.id, table.c.note)),
        "upsert": None,
        "update of many": update(table).values(note="x"),
        "update by another column": update(table).where(table.c.plain == "x").values(note="x"),
        "or": update(table).where((table.c.id == 1) | (table.c.id == 2)).values(note="x"),
        "expression": update(table).where(table.c.id == 1).values(note=table.c.plain),
        "other cell": update(table).where(table.c.id == 1).values(note=table.c.secret),
        "coalesce": select(func.coalesce(table.c.note, table.c.secret)),
        "max": select(func.max(Ping.note)),
        "case": select(case((table.c.id == 1, table.c.note), else_=None)),
        "subquery without the key": select(select(table.c.note).subquery().c.note),
        "dml in a cte": select(insert(table).values(id=1, note="x").returning(table.c.id).cte()),
        "typed literal": select(literal("x", type_=table.c.note.type)),
    }


@pytest.mark.parametrize("shape", [
    "server key", "many inline rows", "from select", "upsert", "update of many",
    "update by another column", "or", "expression", "other cell", "coalesce", "max", "case",
    "subquery without the key", "dml in a cte", "typed literal",
])  # fmt: skip
def test_a_statement_that_names_no_row_is_refused(shape, session, models, database):
    """Nothing is sent: no plaintext, no value that would not open."""
    statement = refused_statements(models)[shape]
    if shape == "upsert":
        statement = upsert(models.table, database)
    with pytest.raises(UnboundValueError):
        session.connection().execute(statement)
    assert session.connection().exec_driver_sql("SELECT id FROM kmsenv_pings").all() == []


def test_do_nothing_on_conflict_is_allowed(session, models, database):
    """The row that stays keeps its own values."""
    table = models.table
    session.connection().execute(insert(table), {"id": 1, "note": "first"})
    if database == "mariadb":
        statement = mysql.insert(table).on_duplicate_key_update(id=table.c.id)
    else:
        dialect = {"sqlite": sqlite, "postgresql": postgresql}[database]
        statement = dialect.insert(table).on_conflict_do_nothing()
    session.connection().execute(statement, [{"id": 1, "note": "second"}, {"id": 2, "note": "n"}])
    notes = session.scalars(select(table.c.note).order_by(table.c.id)).all()
    assert notes == ["first", "n"]


@pytest.mark.parametrize(
    "compare",
    [
        lambda c: c == "x", lambda c: c != "x", lambda c: c.in_(["x"]), lambda c: c.like("x%"),
        lambda c: c < "x", lambda c: c + "x", lambda c: "x" + c, lambda c: c.desc(),
        lambda c: c.contains("x"), lambda c: c.between("a", "b"),
    ],
)  # fmt: skip
def test_comparing_is_refused_when_the_statement_is_built(compare):
    """A search over envelopes would silently find nothing."""
    table = a_table(MetaData(), Column("v", Encrypted(String)))
    with pytest.raises(UnboundValueError, match="encrypted"):
        compare(table.c.v)


def test_null_can_be_asked_for(session, models):
    """NULL stays NULL, so the database can tell."""
    table = models.table
    session.connection().execute(insert(table), [{"id": 1, "note": "x"}, {"id": 2, "note": None}])
    assert session.scalars(select(table.c.id).where(table.c.note.is_(None))).all() == [2]
    assert session.scalars(select(table.c.id).where(table.c.note.is_not(None))).all() == [1]
    assert session.scalars(select(table.c.id).where(table.c.note == None)).all() == [2]  # noqa: E711


def test_literal_binds_never_render_a_value():
    """The SQL text must not hold plaintext."""
    table = a_table(MetaData(), Column("v", Encrypted(String)))
    statement = insert(table).values(id=1, v="canary")
    with pytest.raises(Exception, match="encrypted") as caught:
        statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    assert "canary" not in str(caught.value)


def test_another_database_is_refused_when_it_compiles_and_printing_works():
    """str(statement) is for people; a dialect without packing cannot read."""
    table = a_table(MetaData(), Column("v", Encrypted(String)))
    assert "kmsenv_packed(t.id, t.v)" in str(select(table.c.v))
    with pytest.raises(ConfigurationError, match="mssql"):
        select(table.c.v).compile(dialect=mssql.dialect())


def test_the_stored_bytes_can_be_had_on_request(session, models):
    """type_coerce to LargeBinary is the way to an envelope as it is."""
    from tests.columns.conftest import stored

    session.connection().execute(insert(models.table), {"id": 1, "note": "x"})
    assert stored(session, models.table.c.note).startswith(b"\xe5\x01")


def test_char_keys_that_would_lose_blanks_are_refused():
    """CHAR drops them; the value would be sealed for a key that is not stored."""
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", CHAR(5), primary_key=True), Column("v", Encrypted(String))
    )
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection, pytest.raises(UnboundValueError, match="CHAR"):
        connection.execute(insert(table), {"id": "a ", "v": "x"})


def test_a_key_that_is_no_text_names_no_row_and_is_not_shown(keyring):
    """Half of a character cannot be written; Python's own error would show the key."""
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", String(40), primary_key=True), Column("v", Encrypted(String))
    )
    attach_keyrings(metadata, default=keyring)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with (
        engine.begin() as connection,
        pytest.raises(UnboundValueError, match=r"t\.id cannot name a row"),
    ):
        connection.execute(insert(table), {"id": "\ud800", "v": "x"})


def test_mixed_parameter_sets_are_refused_before_sqlalchemy_prints_them():
    """A set that lacks the value would be reported together with the others."""
    metadata = MetaData()
    table = a_table(metadata, Column("v", Encrypted(String)))
    with (
        create_engine("sqlite://").begin() as connection,
        pytest.raises(UnboundValueError, match="missing"),
    ):
        connection.execute(insert(table), [{"id": 1, "v": "x"}, {"id": 2}])


def test_a_repr_is_valid_python_and_two_columns_do_not_share_one_type():
    """For migration files; and each column keeps its own binding."""
    import sqlalchemy as sa  # noqa: F401  the name that migration files use

    shared = Encrypted(String(40), scope=["id"], name="a.b", pad_to=16, keyring="k")
    again = eval(repr(shared))  # noqa: S307  our own text
    assert repr(again) == repr(shared)
    assert repr(Encrypted(postgresql.JSONB)).startswith("Encrypted(postgresql.JSONB(")
    both = Encrypted(JSON)
    table = a_table(MetaData(), Column("v", both), Column("w", both))
    assert table.c.v.type.binding.column_name == "v"
    assert table.c.w.type.binding.column_name == "w"
    copy = table.to_metadata(MetaData(), name="copied")
    assert copy.c.v.type.binding.table_name == "copied"
    assert pickle.loads(pickle.dumps(table)).c.v.type.binding.column_name == "v"  # noqa: S301


def test_cached_sql_of_one_column_never_serves_another(session, models):
    """cache_ok is honest: two columns with equal arguments keep apart."""
    table = models.table
    session.connection().execute(insert(table), {"id": 1, "note": "n"})
    other = Table(
        "kmsenv_other", MetaData(), Column("id", Integer, primary_key=True),
        Column("note", Encrypted(String)),
    )  # fmt: skip
    assert table.c.note.type._static_cache_key == other.c.note.type._static_cache_key
    keys = [select(t.c.note)._generate_cache_key() for t in (table, other)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xe5", b"\xe5\x01", b"\xe5\x02" + bytes(300), b"plain text", b"i1:" + bytes(90),
     "text in the column", b"\x00\xe5\x01\x01\x00" + bytes(400)],
)  # fmt: skip
def test_foreign_bytes_are_refused_as_no_envelope(raw, session, models, database):
    """Truncated, text, another library's: an error that names the place."""
    from sqlalchemy_kmsenv import EnvelopeError

    table = models.table
    session.connection().execute(insert(table), {"id": 7, "note": "n"})
    if isinstance(raw, str) and database == "postgresql":
        raw = raw.encode()
    overwrite(session.connection(), table, "note", raw, 7)
    with pytest.raises(EnvelopeError, match=r"kmsenv_pings\.note, row \(7\)"):
        session.scalars(select(table.c.note)).all()


def test_type_coerce_between_encrypted_columns_is_no_way_around(session, models):
    """An expression that borrows another column's type still reads its own row."""
    table = models.table
    session.connection().execute(insert(table), {"id": 1, "note": "n", "position": 1})
    with pytest.raises(UnboundValueError):
        session.execute(select(type_coerce(text("note"), table.c.note.type))).all()


@pytest.mark.parametrize("name", ["_alembic_tmp_others", "others"])
def test_only_a_table_that_takes_the_name_of_its_source_is_copied_to(name, keyring):
    """Alembic's batch mode copies rows that stay what they are; nobody else's rows do."""
    metadata = MetaData()
    target = Table(
        name, metadata, Column("id", Integer, primary_key=True), Column("v", Encrypted(String))
    )
    source = Table("mine", metadata, Column("id", Integer), Column("v", LargeBinary))
    attach_keyrings(metadata, default=keyring)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    copy = insert(target).from_select(["id", "v"], select(source.c.id, source.c.v))
    with engine.begin() as connection, pytest.raises(UnboundValueError, match="would copy"):
        connection.execute(copy)
