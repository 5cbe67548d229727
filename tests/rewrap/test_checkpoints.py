import json
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert
from sqlalchemy.types import UserDefinedType

from sqlalchemy_kmsenv import ConfigurationError, Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import (
    CheckpointError,
    TableCheckpoint,
    reencrypt,
    rewrap,
    survey,
    verify,
)
from sqlalchemy_kmsenv.rewrap.checkpoints import store_of
from tests.conftest import on, second_schema
from tests.rewrap.conftest import Notes

TABLE = TableCheckpoint(job="test")


@pytest.fixture(params=["file", "table"])
def checkpoint(request, tmp_path, checkpoint_table):
    """Both places in turn."""
    return tmp_path / "checkpoint.json" if request.param == "file" else TABLE


def stop_after(pages: int) -> dict[str, Any]:
    """A ``should_stop`` that lets so many pages through."""
    left = [pages]

    def should_stop():
        return left[0] <= 0

    def on_progress(_):
        left[0] -= 1

    return {"should_stop": should_stop, "on_progress": on_progress}


def test_a_job_that_was_stopped_goes_on_where_it_was(notes: Notes, checkpoint):
    """A restart from the first row would never end on a table of a billion."""
    notes.key.rotate()
    first = rewrap(
        notes.engine, notes.metadata, batch_size=4, checkpoint=checkpoint, **stop_after(3)
    )
    seen: list[Any] = []

    second = rewrap(
        notes.engine,
        notes.metadata,
        batch_size=4,
        checkpoint=checkpoint,
        on_progress=lambda p: seen.append(p.counts.rows),
    )

    assert not first.complete
    assert first.stopped == "it was asked to stop"
    assert first.counts.rows == 12
    assert seen[0] == 16
    assert second.ok
    assert second.counts.rows == 60
    assert second.counts.rewritten == 57
    assert survey(notes.engine, notes.metadata).ok


def test_a_job_with_partitions_goes_on_in_each(notes: Notes, checkpoint):
    """Workers do not end at the same row."""
    notes.key.rotate()
    options: dict[str, Any] = {"batch_size": 4, "partitions": 3, "checkpoint": checkpoint}
    rewrap(notes.engine, notes.metadata, **options, **stop_after(2))

    report = rewrap(notes.engine, notes.metadata, workers=2, **options)

    assert report.ok
    assert (report.counts.rows, report.counts.rewritten) == (60, 57)


def test_a_complete_job_leaves_no_checkpoint_and_the_next_looks_again(notes: Notes, checkpoint):
    """What failed, or was written under the old key since, must not hide behind it."""
    notes.key.rotate()
    raw = notes.stored()[3]
    notes.overwrite(3, b"plaintext")
    report = rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=checkpoint)
    assert report.complete
    assert report.counts.not_envelopes == 1
    notes.overwrite(3, raw)

    again = rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=checkpoint)

    assert again.ok
    assert again.counts.rewritten == 1


def test_the_checkpoint_of_another_job_is_refused_with_words(notes: Notes, checkpoint, tmp_path):
    """Going on behind the place where another job was would leave rows out."""
    notes.key.rotate()
    rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=checkpoint, **stop_after(1))

    with pytest.raises(CheckpointError, match="kind"):
        reencrypt(notes.engine, notes.metadata, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="columns"):
        rewrap(
            notes.engine,
            notes.metadata,
            columns=[notes.table.c.text],
            checkpoint=checkpoint,
        )
    notes.key.rotate()
    with pytest.raises(CheckpointError, match="targets"):
        rewrap(notes.engine, notes.metadata, checkpoint=checkpoint)
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
    attach_keyrings(notes.metadata, default=Keyring(new, unwrap_only=[notes.key]))
    with pytest.raises(CheckpointError, match="targets"):
        rewrap(notes.engine, notes.metadata, checkpoint=checkpoint)


def test_the_checkpoint_of_another_database_is_refused(notes: Notes, tmp_path):
    """A file from the copy that was tried first says nothing about the original."""
    path = tmp_path / "checkpoint.json"
    notes.key.rotate()
    rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=path, **stop_after(1))
    copy = create_engine(f"sqlite:///{tmp_path / 'copy.db'}")
    notes.metadata.create_all(copy)

    with pytest.raises(CheckpointError, match="another job: database differ"):
        rewrap(copy, notes.metadata, checkpoint=path)
    copy.dispose()


@on("postgresql")
def test_the_checkpoint_of_another_schema_is_refused(notes: Notes, tmp_path):
    """Tenants may have a schema each, and tables of the same names in them."""
    path = tmp_path / "checkpoint.json"
    notes.key.rotate()
    rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=path, **stop_after(1))
    other = notes.engine.execution_options(schema_translate_map={None: "pg_temp"})

    with pytest.raises(CheckpointError, match="another job: schemas differ"):
        rewrap(other, notes.metadata, checkpoint=path)


@pytest.mark.parametrize(
    "now", [{"name": "notes.text"}, {"scope": ["tenant"]}, {"scope": "row"}, {"bind": "column"}]
)
@pytest.mark.parametrize("job", [verify, reencrypt])
def test_the_checkpoint_of_another_binding_is_refused(notes: Notes, tmp_path, job, now):
    """Values that were found well under one binding are not under the other."""
    path = tmp_path / "checkpoint.json"
    columns = [f"{notes.table.name}.text"]
    job(
        notes.engine,
        notes.metadata,
        columns=columns,
        batch_size=4,
        checkpoint=path,
        **stop_after(1),
    )
    metadata = MetaData()
    Table(
        notes.table.name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer, nullable=False),
        Column("text", Encrypted(String, **now)),
    )
    attach_keyrings(metadata, default=Keyring(notes.kms))

    with pytest.raises(CheckpointError, match="another job: bindings differ"):
        job(notes.engine, metadata, columns=columns, checkpoint=path)


@pytest.mark.parametrize("job", [verify, reencrypt])
def test_the_checkpoint_of_another_keyring_is_refused(notes: Notes, tmp_path, job):
    """Whether a value opens is a matter of the keys that were listed when it was tried."""
    path = tmp_path / "checkpoint.json"
    job(notes.engine, notes.metadata, batch_size=4, checkpoint=path, **stop_after(1))
    other = LocalKms.create(tmp_path / "other.json")
    attach_keyrings(notes.metadata, default=Keyring(notes.kms, unwrap_only=[other]))

    with pytest.raises(CheckpointError, match="another job: keys differ"):
        job(notes.engine, notes.metadata, checkpoint=path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "job": {}, "columns": {"a": [1]}}',
        '{"format": 1, "job": {}, "columns": {"a": [{"number": 0, "after": [["int", "+5"]]}]}}',
    ],
)
def test_a_damaged_file_is_refused(notes: Notes, tmp_path, content):
    """A guess could leave rows out."""
    path = tmp_path / "checkpoint.json"
    path.write_text(content)

    with pytest.raises(CheckpointError, match="checkpoint"):
        rewrap(notes.engine, notes.metadata, checkpoint=path)


def test_the_format_of_another_release_is_refused(notes: Notes, tmp_path):
    """What looks alike may mean something else there."""
    path = tmp_path / "checkpoint.json"
    notes.key.rotate()
    options: dict[str, Any] = {"batch_size": 4, "checkpoint": path}
    rewrap(notes.engine, notes.metadata, **options, **stop_after(1))
    document = json.loads(path.read_text())
    assert document["format"] == 1
    path.write_text(json.dumps({**document, "format": 2}))

    with pytest.raises(CheckpointError, match="no checkpoint that this release can read"):
        rewrap(notes.engine, notes.metadata, **options)


def test_rows_without_a_job_are_not_gone_on_from(notes: Notes, checkpoint_table):
    """Somebody removed the row that says which job it was: nothing vouches for the others."""
    notes.key.rotate()
    options: dict[str, Any] = {"batch_size": 4, "checkpoint": TABLE}
    rewrap(notes.engine, notes.metadata, **options, **stop_after(1))
    with notes.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM kmsenv_checkpoints WHERE part = -1")

    report = rewrap(notes.engine, notes.metadata, **options)

    assert report.ok
    assert (report.counts.rows, report.counts.rewritten) == (60, 53)


def test_what_is_no_checkpoint_is_refused(notes: Notes):
    """In words, before the first row."""
    with pytest.raises(ConfigurationError, match="checkpoint=7 is refused"):
        rewrap(notes.engine, notes.metadata, checkpoint=7)  # type: ignore[arg-type]


def test_a_file_holds_no_value_and_no_stored_bytes(notes: Notes, tmp_path):
    """It lies about on the disk of whoever ran the job."""
    path = tmp_path / "checkpoint.json"
    notes.overwrite(0, b"plaintext from before")
    notes.key.rotate()

    rewrap(notes.engine, notes.metadata, batch_size=4, checkpoint=path, **stop_after(1))

    content = path.read_text()
    assert json.loads(content)["columns"]["kmsenv_rewrap_notes.text"][0]["counts"]["rows"] == 4
    assert "plaintext from before" not in content
    assert notes.stored()[1].hex() not in content


def test_a_file_that_cannot_be_written_is_an_error(notes: Notes, tmp_path):
    """A job without its checkpoint is not what was asked for."""
    with pytest.raises(CheckpointError, match="cannot be written"):
        rewrap(notes.engine, notes.metadata, checkpoint=tmp_path / "absent" / "checkpoint.json")


@pytest.mark.parametrize("name", ["", "j" * 101])
def test_a_name_that_its_column_does_not_take_is_refused(name):
    """A database that cuts it would give two jobs one place."""
    with pytest.raises(ConfigurationError, match="1 to 100 characters"):
        TableCheckpoint(job=name)


def test_a_name_may_be_as_long_as_its_column(notes: Notes, checkpoint_table):
    """In characters that take several bytes too."""
    notes.key.rotate()
    kept: dict[str, Any] = {"batch_size": 4, "checkpoint": TableCheckpoint(job="é" * 100)}
    assert rewrap(notes.engine, notes.metadata, **kept, **stop_after(1)).counts.rows == 4
    assert rewrap(notes.engine, notes.metadata, **kept).counts.rows == 60


@on("mariadb")
def test_jobs_of_two_databases_do_not_keep_each_other_off(notes: Notes, checkpoint_table):
    """The server knows a lock by its name alone, and the default name is everybody's."""
    name = second_schema("kmsenv_locks")
    with notes.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE IF NOT EXISTS {name}")
    other = create_engine(notes.engine.url.set(database=name))
    here = store_of(TABLE)
    with here.held(notes.engine) as got, here.held(other) as got_elsewhere:
        assert (got, got_elsewhere) == (True, True)
        with store_of(TableCheckpoint(job="test", schema=name)).held(notes.engine) as again:
            assert not again
    other.dispose()


def test_two_jobs_may_share_the_table(notes: Notes, checkpoint_table):
    """One for each name."""
    notes.key.rotate()
    stopped: dict[str, Any] = {"batch_size": 4, "checkpoint": TABLE}
    rewrap(notes.engine, notes.metadata, **stopped, **stop_after(1))

    other = TableCheckpoint(job="other")
    assert reencrypt(notes.engine, notes.metadata, checkpoint=other).ok
    assert rewrap(notes.engine, notes.metadata, **stopped).counts.rows == 60


class Strange(UserDefinedType[object]):
    """A type of a key whose Python values have no form in a checkpoint."""

    cache_ok = True

    def get_col_spec(self, **_):
        return "VARCHAR(20)"

    def result_processor(self, dialect, coltype):
        return complex

    def bind_processor(self, dialect):
        return str


def test_a_key_that_cannot_be_kept_is_refused_where_a_checkpoint_is_asked(
    engine, metadata, keyring, tmp_path
):
    """Without a checkpoint the table can still be served."""
    table = Table(
        "kmsenv_rewrap_strange",
        metadata,
        Column("k", Strange, primary_key=True),
        Column("text", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"k": complex(n, 1), "text": "a"} for n in range(5)])

    with pytest.raises(ConfigurationError, match="complex"):
        rewrap(engine, metadata, checkpoint=tmp_path / "checkpoint.json")
    assert rewrap(engine, metadata, batch_size=2).counts.rows == 5


@on("sqlite")
def test_a_checkpoint_that_cannot_be_written_later_stops_the_job_with_its_report(
    notes: Notes, tmp_path
):
    """A disk that fills up in the night must not take along what the job has done."""
    notes.key.rotate()
    place = tmp_path / "checkpoints"
    place.mkdir()
    path = place / "checkpoint.json"
    moved_away = tmp_path / "moved"

    def vanish(progress):
        if progress.counts.rows == 8:
            place.rename(moved_away)

    options: dict[str, Any] = {"batch_size": 4, "checkpoint": path}
    first = rewrap(notes.engine, notes.metadata, on_progress=vanish, **options)
    moved_away.rename(place)
    second = rewrap(notes.engine, notes.metadata, **options)

    assert "cannot be written" in str(first.stopped)
    assert not first.complete
    assert (first.counts.rows, first.counts.rewritten) == (12, 11)
    assert second.ok
    assert survey(notes.engine, notes.metadata).ok
