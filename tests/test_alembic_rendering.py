"""What autogenerate writes for encrypted columns, and what ALTER is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy import column as named
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings
from sqlalchemy_kmsenv.alembic_plugin import AlterEncryptedError
from sqlalchemy_kmsenv.rewrap import TableCheckpoint, rewrap
from sqlalchemy_kmsenv.rewrap.renewals import TABLE_NAME
from tests.conftest import on

MODELS = """
from sqlalchemy import JSON, String, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from own_types import Shouted
from sqlalchemy_kmsenv import Encrypted

class Base(DeclarativeBase):
    pass

class Guest(Base):
    __tablename__ = "guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    passport: Mapped[str] = mapped_column(Encrypted(String(20)))
    visa: Mapped[str] = mapped_column(Encrypted(mysql.VARCHAR(20)))
    name: Mapped[str] = mapped_column(Encrypted(Shouted()))
"""
OWN_TYPES = """
from sqlalchemy import String, TypeDecorator

class Shouted(TypeDecorator):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and value.upper()
"""
MODEL_LATER = """
    address: Mapped[str | None] = mapped_column(Encrypted(JSON))
"""


@pytest.fixture
def project(tmp_path):
    """What `alembic init` makes, with models and the line in env.py that the README asks for."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "own_types.py").write_text(OWN_TYPES)
    alembic(tmp_path, "init", "migrations")
    ini = tmp_path / "alembic.ini"
    lines = [
        f"sqlalchemy.url = sqlite:///{tmp_path}/t.db" if line.startswith("sqlalchemy.url") else line
        for line in ini.read_text().splitlines()
    ]
    ini.write_text("\n".join(lines))
    env = tmp_path / "migrations" / "env.py"
    configured = "import models\nimport sqlalchemy_kmsenv.alembic_plugin\n"
    configured += "target_metadata = models.Base.metadata"
    env.write_text(env.read_text().replace("target_metadata = None", configured))
    return tmp_path


def alembic(project: Path, *arguments: str) -> str:
    """Run Alembic's own command; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic.config", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent.parent}{os.pathsep}{project}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_generated_migrations_run_as_they_are(project):
    """Nobody edits script.py.mako, nor looks for the import of each inner type."""
    alembic(project, "revision", "--autogenerate", "-m", "first")
    alembic(project, "upgrade", "head")
    (project / "models.py").write_text(MODELS + MODEL_LATER)
    alembic(project, "revision", "--autogenerate", "-m", "second")
    alembic(project, "upgrade", "head")
    alembic(project, "check")
    (project / "models.py").write_text(MODELS)
    alembic(project, "revision", "--autogenerate", "-m", "third")
    alembic(project, "upgrade", "head")
    script = alembic(project, "upgrade", "base:head", "--sql")
    alembic(project, "downgrade", "base")

    assert "passport BLOB NOT NULL" in script
    assert "ADD COLUMN address BLOB" in script


@pytest.fixture
def after_a_job(engine, kms):
    """A model without a row, and the tables that a job with a checkpoint makes."""
    metadata = MetaData()
    Table(
        "op_visits",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("note", Encrypted(String(20))),
    )
    attach_keyrings(metadata, Keyring(kms))
    made = [TABLE_NAME, TableCheckpoint().table]
    with engine.begin() as connection:
        for name in [*made, "op_old"]:
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
        connection.execute(text("CREATE TABLE op_old (id INTEGER PRIMARY KEY)"))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["op_visits"]), {"id": 1, "note": "x"})
    rewrap(engine, metadata, checkpoint=TableCheckpoint())
    assert set(made) <= set(inspect(engine).get_table_names())
    yield metadata
    with engine.begin() as connection:
        for name in [*made, "op_old"]:
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    metadata.drop_all(engine)


def _tables(operations: Any) -> set[str]:
    return {each.table_name for each in operations.ops}


def test_autogenerate_drops_no_table_that_a_job_keeps(engine, after_a_job):
    """A job that is under way goes on behind the migration; what is not ours is dropped."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        script = produce_migrations(context, after_a_job)
    dropped, made_again = map(_tables, (script.upgrade_ops, script.downgrade_ops))
    own = {TABLE_NAME, TableCheckpoint().table}
    assert "op_old" in dropped & made_again
    assert not own & (dropped | made_again)


@pytest.fixture
def guests(engine):
    """A table with plaintext."""
    metadata = MetaData()
    guests = Table(
        "op_guests",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("passport", String(20)),
        Column("raw", LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(guests), [{"id": 1, "passport": "P1"}])
    yield guests
    metadata.drop_all(engine)


def operations_on(connection, **options):
    """Alembic's operations outside of an environment."""
    return Operations(MigrationContext.configure(connection, **options))


def plaintext(engine):
    """The passport as a program without the library reads it."""
    with engine.connect() as connection:
        return connection.scalar(select(table("op_guests", named("passport", String))))


def test_plaintext_column_is_never_altered_by_autogenerate(engine, guests):
    """The obvious way: change the model. MariaDB would leave plaintext in a LONGBLOB."""
    metadata = MetaData()
    Table(
        "op_guests",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("passport", Encrypted(String(20)), nullable=False),
        Column("raw", Encrypted(LargeBinary)),
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or name == "op_guests"},
        )
        script = produce_migrations(context, metadata)
        rendered = [
            render_python_code(each)
            for each in (script.upgrade_ops, script.downgrade_ops)
            if each is not None
        ]
        for code in rendered:
            with pytest.raises(NotImplementedError, match=r"op_guests\.passport .*adopting\.md"):
                exec(f"def run(op):\n    {code}\nrun(None)", {})  # noqa: S102  what it wrote

    assert "raw" not in "".join(rendered)
    assert plaintext(engine) == "P1"


@pytest.mark.parametrize("told", [None, String(20), LargeBinary()])
def test_alter_by_hand_is_refused_too(engine, guests, told):
    """Whatever the migration says of the type that is there, the database is asked."""
    with engine.connect() as connection:
        op = operations_on(connection)
        with pytest.raises(AlterEncryptedError, match=r"op_guests\.passport holds plaintext"):
            op.alter_column(
                "op_guests", "passport", type_=Encrypted(String(20)), existing_type=told
            )

    assert plaintext(engine) == "P1"


@on("sqlite")
def test_alter_in_batch_mode_is_refused(engine, guests):
    """SQLite's way copies the table."""
    with engine.connect() as connection:
        op = operations_on(connection)
        with (
            pytest.raises(AlterEncryptedError, match="holds plaintext"),
            op.batch_alter_table("op_guests") as batch,
        ):
            batch.alter_column("passport", type_=Encrypted(String(20)))

    assert plaintext(engine) == "P1"


@on("postgresql", "mariadb")
def test_column_of_bytes_may_be_declared_encrypted(engine, guests):
    """An early migration said LargeBinary, as the README of other libraries does."""
    with engine.begin() as connection:
        op = operations_on(connection)
        op.alter_column("op_guests", "raw", type_=Encrypted(String), existing_type=LargeBinary())
        found = {
            each["name"]: each["type"] for each in inspect(connection).get_columns("op_guests")
        }

    assert found["raw"].python_type is bytes


def alter(op, table_name, column_name, batch, **options):
    """As autogenerate writes it, with ``render_as_batch`` or without."""
    if not batch:
        op.alter_column(table_name, column_name, **options)
        return
    with op.batch_alter_table(table_name) as operations:
        operations.alter_column(column_name, **options)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("to", [Text(), Integer()])
def test_envelopes_are_never_altered_into_text_or_numbers(to, batch, engine, keyring):
    """The model became plain again, and autogenerate sees bytes: SQLite would make 0 of them."""
    metadata = MetaData()
    cards = Table(
        "op_cards", metadata,
        Column("id", Integer, primary_key=True), Column("number", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(cards), {"id": 1, "number": "4111"})
        op = operations_on(connection)
        words = r"op_cards\.number holds envelopes.*adopting\.md"
        with pytest.raises(AlterEncryptedError, match=words):
            alter(op, "op_cards", "number", batch, type_=to, existing_type=LargeBinary())
        assert connection.scalars(select(cards.c.number)).all() == ["4111"]
    metadata.drop_all(engine)


def test_check_is_turned_on_and_its_column_dropped_as_the_readme_says(engine, keyring):
    """On SQLite by a copy of the table, in which each envelope stays in its row."""
    metadata = MetaData()
    cards = Table(
        "op_cards", metadata,
        Column("id", Integer, primary_key=True), Column("number", Encrypted(String)),
    )  # fmt: skip
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    checked = Encrypted(String, check=True)
    with engine.begin() as connection:
        connection.execute(insert(cards), [{"id": n, "number": f"411{n}"} for n in (1, 2)])
        op = operations_on(connection)
        alter(op, "op_cards", "number", batch=True, existing_type=Encrypted(String), type_=checked)
        assert connection.scalars(select(cards.c.number)).all() == ["4111", "4112"]
        with pytest.raises(DBAPIError), connection.begin_nested():
            connection.execute(text("UPDATE op_cards SET number = 'plain'"))
        with op.batch_alter_table("op_cards") as batch:
            batch.drop_constraint("ck_op_cards_number_sealed", type_="check")
            batch.drop_column("number")
        assert connection.execute(text("SELECT * FROM op_cards")).all() == [(1,), (2,)]
    metadata.drop_all(engine)


def test_script_goes_by_what_the_migration_says():
    """Without a database there is nobody to ask."""
    script = StringIO()
    op = Operations(
        MigrationContext.configure(
            dialect_name="postgresql", opts={"as_sql": True, "output_buffer": script}
        )
    )
    for told, refused in ((None, "existing_type="), (JSON(), "holds plaintext")):
        with pytest.raises(AlterEncryptedError, match=refused):
            op.alter_column("guests", "passport", type_=Encrypted(String), existing_type=told)
    op.alter_column("guests", "passport", type_=Encrypted(String), existing_type=LargeBinary())

    assert script.getvalue().count("ALTER TABLE guests") == 1
