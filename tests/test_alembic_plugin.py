"""``op.rewrap_column``: from the example's migrations, and in a context of its own."""

from __future__ import annotations

from argparse import Namespace

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.util import CommandError
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    column,
    create_engine,
    insert,
    inspect,
    select,
    table,
    text,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from examples.locations import schema
from examples.locations.models import APP, Base, Ping
from examples.locations.samples import TRACKS
from examples.locations.tracks import read_track, store_track
from sqlalchemy_kmsenv import ConfigurationError, Encrypted, Keyring, attach_keyrings
from sqlalchemy_kmsenv.alembic_plugin import RewrapColumnError
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from sqlalchemy_kmsenv.rewrap import Progress, survey
from tests.conftest import on

TABLES = ("locations_pings", "locations_devices", "locations_alembic_version")
TRACK = read_track(TRACKS / "harbour-boat.gpx")
# The column as a program without the library knows it.
RAW = table("locations_pings", column("id", Uuid()), column("position", LargeBinary()))


@pytest.fixture
def locations(engine):
    """A database without the example's tables, before and after."""
    drop(engine)
    yield engine
    drop(engine)
    attached_keyrings(Base.metadata).clear()


@pytest.fixture
def rotated(locations, kms, local_kms):
    """The pings of a track at revision 0001, sealed before their key was rotated."""
    command.upgrade(schema.config_for(locations), "0001")
    attach_keyrings(Base.metadata, Keyring(kms, context=APP))
    store_track(locations, TRACK)
    local_kms.rotate()
    return locations


def drop(engine):
    """Remove the tables of the example."""
    with engine.begin() as connection:
        for name in TABLES:
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


def revision(engine):
    """The revision that the database is at."""
    with engine.connect() as connection:
        return connection.scalar(text("SELECT version_num FROM locations_alembic_version"))


def positions(engine):
    """Every position, opened."""
    with Session(engine) as session:
        return {row.id: row.position for row in session.execute(select(Ping.id, Ping.position))}


def test_migration_rewraps_the_rows_that_are_there(rotated, kms):
    """One KMS call for the one data key; the values stay, and so does the revision."""
    values = positions(rotated)

    with kms.expect(rewrap=1):
        command.upgrade(schema.config_for(rotated), "head")

    [found] = survey(rotated, Base.metadata).columns
    assert (found.envelopes, found.not_at_target) == (len(TRACK.points), 0)
    assert positions(rotated) == values
    assert revision(rotated) == "0002"


def test_migration_of_a_new_database_needs_no_key(locations):
    """Continuous integration builds empty schemas, and has no key to give."""
    assert attached_keyrings(Base.metadata) == {}

    command.upgrade(schema.config_for(locations), "head")

    assert revision(locations) == "0002"


def test_downgrade_and_upgrade_again(rotated):
    """There is nothing to undo, and nothing left to do."""
    config = schema.config_for(rotated)
    command.upgrade(config, "head")
    values = positions(rotated)

    command.downgrade(config, "0001")
    command.upgrade(config, "head")

    assert positions(rotated) == values
    command.check(config)
    command.downgrade(config, "base")
    assert not inspect(rotated).has_table("locations_pings")


def test_migration_without_a_keyring_fails_in_words_and_can_be_repeated(rotated, kms):
    """The deployment that lacks the key must stop, not pass over the rows."""
    attached_keyrings(Base.metadata).clear()
    config = schema.config_for(rotated)

    with pytest.raises(RewrapColumnError, match="attach_keyrings") as caught:
        command.upgrade(config, "head")

    # Alembic's own command shows a CommandError as one line, without a traceback.
    assert isinstance(caught.value, CommandError)
    assert isinstance(caught.value.__cause__, ConfigurationError)
    assert revision(rotated) == "0001"
    attach_keyrings(Base.metadata, Keyring(kms, context=APP))
    command.upgrade(config, "head")
    assert revision(rotated) == "0002"


def test_bad_row_fails_the_migration_and_is_named(rotated, kms):
    """The others are served; once it is put right, the next upgrade goes on."""
    bad = next(iter(positions(rotated)))
    kept = swap_bytes(rotated, bad, b"plaintext")
    config = schema.config_for(rotated)

    with pytest.raises(RewrapColumnError) as caught:
        command.upgrade(config, "head")

    assert f"1 of {len(TRACK.points)} rows failed" in str(caught.value)
    assert f"row ({bad}): EnvelopeError" in str(caught.value)
    assert caught.value.report is not None
    assert caught.value.report.counts.rewritten == len(TRACK.points) - 1
    assert revision(rotated) == "0001"

    swap_bytes(rotated, bad, kept)
    before = sum(kms.calls.values())
    command.upgrade(config, "head")
    # The data key is wrapped anew, or the renewed header of another row is tried, or both.
    assert sum(kms.calls.values()) - before in (1, 2)
    assert revision(rotated) == "0002"


def swap_bytes(engine, ping_id, stored):
    """Put bytes into a position; those that were there."""
    with engine.begin() as connection:
        before = connection.scalar(select(RAW.c.position).where(RAW.c.id == ping_id))
        connection.execute(update(RAW).where(RAW.c.id == ping_id).values(position=stored))
    return before


def test_key_can_be_named_on_the_command_line_of_alembic(rotated, tmp_path):
    """A migration runs from a shell, where no application has attached a keyring."""
    attached_keyrings(Base.metadata).clear()
    config = schema.config_for(rotated)
    config.cmd_opts = Namespace(x=[f"kms=local://{tmp_path / 'keys.json'}"])

    command.upgrade(config, "head")

    assert revision(rotated) == "0002"


def test_offline_mode_is_refused(locations, capsys):
    """An SQL script cannot call a key service; one that leaves it out would lie."""
    with pytest.raises(RewrapColumnError, match="kmsenv rewrap"):
        command.upgrade(schema.config_for(locations), "head", sql=True)


@pytest.fixture
def notes(metadata, engine, keyring, local_kms):
    """A table of its own, with a note under old key material."""
    notes = Table(
        "op_notes",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("secret", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(notes), [{"id": 1, "secret": "s"}])
    local_kms.rotate()
    return notes


def operations_on(connection, **options):
    """Alembic's operations outside of an environment."""
    opts = {"transaction_per_migration": True, **options}
    return Operations(MigrationContext.configure(connection, opts=opts))


def due(engine, metadata):
    """Envelopes that are not at the target."""
    return survey(engine, metadata).columns[0].not_at_target


def test_table_that_the_same_migration_changed_is_not_waited_for(notes, engine, metadata):
    """ALTER TABLE locks: the job's connections would wait for the migration's for ever."""
    with engine.connect() as connection:
        op = operations_on(connection, target_metadata=metadata)
        with op.migration_context.begin_transaction(_per_migration=True):
            op.add_column("op_notes", Column("added", Integer))
            op.rewrap_column("op_notes", "secret")
            op.drop_column("op_notes", "added")

    assert due(engine, metadata) == 0


def test_transaction_of_env_py_is_refused(notes, engine, metadata):
    """There the job might wait for a lock that its own caller holds."""
    with engine.begin() as connection:
        op = operations_on(connection, target_metadata=metadata)
        with pytest.raises(RewrapColumnError, match="inside of a transaction"):
            op.rewrap_column("op_notes", "secret")

    assert due(engine, metadata) == 1


def test_options_of_the_job_are_passed_on(notes, engine, metadata):
    """A large table is served slowly, and in small pages."""
    pages: list[Progress] = []
    with engine.connect() as connection:
        op = operations_on(connection)
        with op.migration_context.begin_transaction(_per_migration=True):
            op.rewrap_column(
                "op_notes", "secret", metadata=metadata, batch_size=1, on_progress=pages.append
            )

    assert [page.counts.rows for page in pages][-1] == 1
    assert due(engine, metadata) == 0


@pytest.fixture
def elsewhere(notes, engine, local_kms):
    """Another schema with the same table and another note under old key material."""
    mapped = engine.execution_options(schema_translate_map={None: "op_tenant"})
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS op_tenant CASCADE"))
        connection.execute(text("CREATE SCHEMA op_tenant"))
    notes.create(mapped)
    with mapped.begin() as connection:
        connection.execute(insert(notes), [{"id": 1, "secret": "s"}])
    local_kms.rotate()
    yield mapped
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA op_tenant CASCADE"))


@on("postgresql")
def test_job_works_in_the_schema_that_the_migration_maps_to(notes, engine, metadata, elsewhere):
    """A migration of each tenant's schema must not serve the public one again and again."""
    with engine.connect() as connection:
        mapped = connection.execution_options(schema_translate_map={None: "op_tenant"})
        op = operations_on(mapped, target_metadata=metadata)
        with op.migration_context.begin_transaction(_per_migration=True):
            op.rewrap_column("op_notes", "secret")

    assert (due(elsewhere, metadata), due(engine, metadata)) == (0, 1)


@on("postgresql")
@pytest.mark.parametrize("setting", ["search_path TO op_tenant", "ROLE pg_read_all_data"])
def test_job_that_would_work_elsewhere_than_the_migration_is_refused(
    notes, engine, metadata, elsewhere, setting
):
    """What env.py sets on its own connection does not hold on those of the job."""
    with engine.connect() as connection:
        connection.execute(text(f"SET {setting}"))
        connection.commit()
        op = operations_on(connection, target_metadata=metadata)
        with (
            op.migration_context.begin_transaction(_per_migration=True),
            pytest.raises(RewrapColumnError, match="in the migration"),
        ):
            op.rewrap_column("op_notes", "secret")
        connection.invalidate()

    assert (due(elsewhere, metadata), due(engine, metadata)) == (1, 1)


@on("sqlite")
def test_progress_is_logged(notes, engine, metadata, caplog):
    """A migration of an hour that says nothing is killed by whoever waits for it."""
    caplog.set_level("INFO", logger="sqlalchemy_kmsenv.alembic_plugin")
    with engine.connect() as connection:
        op = operations_on(connection, target_metadata=metadata)
        with op.migration_context.begin_transaction(_per_migration=True):
            op.rewrap_column("op_notes", "secret")

    said = [record.getMessage().split(",")[0] for record in caplog.records]
    assert said == ["op_notes.secret: 1 of 1 rows", "op_notes.secret: 1 rows"]


@on("sqlite")
def test_wrong_names_are_refused_in_words(notes, engine, metadata):
    """A migration outlives the models that it was written for."""
    with engine.connect() as connection:
        with pytest.raises(RewrapColumnError, match="give metadata="):
            operations_on(connection).rewrap_column("op_notes", "secret")
        op = operations_on(connection, target_metadata=metadata)
        for table_name, column_name in (("op_notes", "id"), ("gone", "secret")):
            with pytest.raises(RewrapColumnError, match="is not an encrypted column"):
                op.rewrap_column(table_name, column_name)


def test_database_in_memory_is_refused_where_no_other_connection_sees_it(keyring):
    """The job would find no table, or another one."""
    metadata = MetaData()
    notes = Table(
        "op_notes",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("secret", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    engine = create_engine("sqlite://", poolclass=NullPool)
    with engine.connect() as connection:
        metadata.create_all(connection)
        connection.execute(insert(notes), [{"id": 1, "secret": "s"}])
        connection.commit()
        op = operations_on(connection, target_metadata=metadata)
        with (
            op.migration_context.begin_transaction(_per_migration=True),
            pytest.raises(RewrapColumnError, match="is it a database in memory"),
        ):
            op.rewrap_column("op_notes", "secret")
