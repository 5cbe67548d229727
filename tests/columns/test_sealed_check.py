"""``Encrypted(..., check=True)``: what is no envelope fails in the database."""

from __future__ import annotations

import pickle

import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    column,
    insert,
    inspect,
    select,
    table,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

import sqlalchemy_kmsenv
import sqlalchemy_kmsenv.alembic_plugin
from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.envelope import MAGIC
from tests.conftest import on

CHECKS = {"ck_kmsenv_checked_secret_sealed", "ck_kmsenv_checked_select_sealed"}
# MariaDB reports it as an operational error.
REFUSED = {"mariadb": OperationalError}
RAW = table("kmsenv_checked", column("id", Integer), column("secret", LargeBinary))


@pytest.fixture
def checked(metadata, engine, keyring):
    """A table whose keys the server generates, so that rows are first stored empty."""
    checked = Table(
        "kmsenv_checked",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("secret", Encrypted(String, check=True)),
        Column("select", Encrypted(String, check=True)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    return checked


def test_values_pass_and_plaintext_does_not(engine, checked, database):
    """Raw SQL, another program, a data frame: they go past the type, not past the database."""
    with engine.begin() as connection:
        connection.execute(
            insert(checked), [{"secret": "a", "select": "b"}, {"secret": "c", "select": None}]
        )
        connection.execute(insert(checked).values(secret=None))
    for plaintext in ("plain", "張三", "\u5001", "x"):
        with engine.begin() as connection, pytest.raises(REFUSED.get(database, IntegrityError)):
            connection.execute(insert(RAW).values(id=9, secret=plaintext.encode()))
        with engine.begin() as connection, pytest.raises(REFUSED.get(database, IntegrityError)):
            connection.execute(text("UPDATE kmsenv_checked SET secret = :v"), {"v": plaintext})
    with engine.begin() as connection:
        connection.execute(update(RAW).where(RAW.c.id == 3).values(secret=b""))
        read = connection.execute(select(checked.c.secret).where(checked.c.id < 3)).scalars().all()

    assert sorted(read) == ["a", "c"]


def test_every_pair_of_first_bytes_is_decided_alike(engine, checked):
    """Envelopes of formats to come pass, and nothing that begins UTF-8 text."""
    passed = []
    with engine.connect() as connection:
        for head in (
            MAGIC,
            b"\xe5\x0f",
            b"\xe5\x00",
            b"\xe5\x10",
            b"\xe5",
            b"\xe4\x01",
            b"\xe5\x80",
        ):
            with connection.begin() as transaction:
                try:
                    connection.execute(insert(RAW).values(id=9, secret=head))
                    passed.append(head)
                except DBAPIError:
                    pass
                transaction.rollback()

    assert passed == [MAGIC, b"\xe5\x0f"]


def differences(engine, metadata, **options):
    """What autogenerate would write."""
    options["include_name"] = lambda name, kind, _: kind != "table" or name == "kmsenv_checked"
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found = produce_migrations(context, metadata).upgrade_ops
        assert found is not None
        return "" if found.is_empty() else render_python_code(found)


def check_names(engine):
    """The CHECK constraints in the database."""
    return {each["name"] for each in inspect(engine).get_check_constraints("kmsenv_checked")}


def test_autogenerate_renders_it_once_and_sees_no_difference(engine, checked, metadata):
    """Not as SQL of one database either: the type brings it along."""
    assert check_names(engine) == CHECKS
    by_name = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]
    assert differences(engine, metadata) == ""
    assert differences(engine, metadata, autogenerate_plugins=by_name) == ""

    metadata.drop_all(engine)
    code = differences(engine, metadata)
    assert code.count("check=True") == 2
    assert "CheckConstraint" not in code
    with engine.begin() as connection:
        names = {
            "op": Operations(MigrationContext.configure(connection)),
            "sa": __import__("sqlalchemy"),
            "sqlalchemy_kmsenv": sqlalchemy_kmsenv,
        }
        exec(f"if True:\n    {code}", names)  # noqa: S102  what autogenerate wrote
    assert check_names(engine) == CHECKS


@pytest.mark.parametrize("batch", [False, True])
def test_column_that_is_added_brings_its_check(engine, checked, database, batch):
    """SQLite adds a constraint in batch mode alone, and Alembic says so."""
    added: Column[str] = Column("later", Encrypted(String, check=True))
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        if batch:
            with op.batch_alter_table("kmsenv_checked") as table:
                table.add_column(added)
        elif database == "sqlite":
            with pytest.warns(UserWarning, match="Skipping unsupported ALTER"):
                op.add_column("kmsenv_checked", added)
            return
        else:
            op.add_column("kmsenv_checked", added)

    assert check_names(engine) == {*CHECKS, "ck_kmsenv_checked_later_sealed"}


@on("postgresql", "mariadb")
def test_column_that_is_there_gets_its_check(engine, checked, metadata):
    """Rows are checked when it comes."""
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.drop_constraint("ck_kmsenv_checked_secret_sealed", "kmsenv_checked", type_="check")
        there, wanted = Encrypted(String), Encrypted(String, check=True)
        op.alter_column("kmsenv_checked", "secret", existing_type=there, type_=wanted)

    assert check_names(engine) == CHECKS


@on("sqlite")
def test_copied_pickled_and_reflected_tables_keep_one(engine, checked):
    """A copy of the table must not have it twice."""
    reflected = Table(
        "kmsenv_checked",
        MetaData(),
        Column("secret", Encrypted(String, check=True)),
        autoload_with=engine,
    )
    for other in (checked.to_metadata(MetaData()), pickle.loads(pickle.dumps(checked)), reflected):  # noqa: S301
        names = [str(each.name) for each in other.constraints if each.name is not None]
        assert sorted(names) == sorted(CHECKS)


def test_name_that_is_too_long_is_shortened():
    """PostgreSQL would cut it, and then find another name than the model's."""
    long = Table(
        "t" * 40,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("c" * 30, Encrypted(String, check=True)),
        Column("d" * 30, Encrypted(String, check=True)),
    )
    names = {str(each.name) for each in long.constraints if each.name is not None}
    assert len(names) == 2
    assert max(map(len, names)) <= 63


def test_flush_with_late_sealing_passes(engine, checked):
    """Rows whose keys the server generates are stored empty first."""
    with Session(engine) as session:
        session.execute(insert(checked), [{"secret": "a"}])
        session.commit()
        assert session.scalars(select(checked.c.secret)).all() == ["a"]
