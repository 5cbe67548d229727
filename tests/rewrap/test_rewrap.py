import datetime
import json
from dataclasses import replace

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    text,
    update,
)

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Keyring,
    LocalKms,
    attach_keyrings,
)
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.rewrap import reencrypt, rewrap, survey
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes, text_of


def test_only_fingerprint_hint_and_wrapped_key_change(notes: Notes):
    """Re-wrap must be unable to damage a value: its bytes are not even sent."""
    before = notes.stored()
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=["kmsenv_rewrap_notes.text"])

    assert report.ok
    for key, raw in notes.stored().items():
        old_raw = before[key]
        if raw is None:
            assert old_raw is None
            continue
        old, new = parse_header(old_raw), parse_header(raw)
        assert raw[new.size :] == old_raw[old.size :]
        assert new.reference.commitment == old.reference.commitment
        assert new.value_type == old.value_type
        assert new.reference.material_hint.hex() == notes.key.material_ids[-1][:16]
        assert new.reference.wrapped != old.reference.wrapped
    assert notes.texts() == {n: text_of(n) for n in range(30)}


@pytest.mark.parametrize("job", [rewrap, reencrypt])
def test_a_key_that_is_rotated_during_the_job_is_told(notes: Notes, job):
    """The early rows are under material that is no longer the newest: the policy is not met."""
    notes.key.rotate()

    def rotate(progress):
        if progress.column.endswith(".text"):
            notes.key.rotate()

    report = job(notes.engine, notes.metadata, on_progress=rotate)
    again = rewrap(notes.engine, notes.metadata)

    assert report.complete
    assert not report.counts.failed
    assert not report.ok
    assert report.moved_targets == (f"{notes.table.name}.text", f"{notes.table.name}.secret")
    assert "rotated" in report.notes[0]
    assert again.ok
    assert again.moved_targets == ()


def test_one_call_for_each_data_key_however_many_rows_and_pages(notes: Notes):
    """KMS calls are paid for, and limited by an account's quota."""
    notes.key.rotate()
    notes.kms.reset()

    with notes.kms.expect(rewrap=1 + 3):
        report = rewrap(notes.engine, notes.metadata, batch_size=4, workers=2)

    assert [c.counts.kms_calls for c in report.columns] == [1, 3]
    assert [c.counts.rewritten for c in report.columns] == [27, 30]
    assert report.columns[0].counts.null == 3


@pytest.mark.parametrize("rows_a_key", [1, 2, 3, 4, 9])
def test_pages_of_many_data_keys_are_rewrapped_whole(rows_a_key, engine, metadata, local_kms):
    """A page where few rows share each header is written in another way than one where many do."""
    table = Table(
        "kmsenv_rewrap_scoped",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer, nullable=False),
        Column("secret", Encrypted(String, scope=["tenant"])),
    )
    attach_keyrings(metadata, default=Keyring(local_kms))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    rows = [{"id": n, "tenant": n // rows_a_key, "secret": f"secret {n}"} for n in range(40)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    local_kms.rotate()

    report = rewrap(engine, metadata, batch_size=17)

    assert report.ok, report.to_json()
    assert report.counts.rewritten == 40
    with engine.connect() as connection:
        opened = connection.execute(select(table.c.id, table.c.secret)).all()
    assert dict(opened) == {row["id"]: row["secret"] for row in rows}


def test_running_twice_does_nothing_the_second_time(notes: Notes):
    """An operator who is not sure runs it again."""
    notes.key.rotate()
    rewrap(notes.engine, notes.metadata)
    after_first = notes.stored()

    with notes.kms.expect():
        report = rewrap(notes.engine, notes.metadata)

    assert report.ok
    assert (report.counts.rewritten, report.counts.current) == (0, 57)
    assert notes.stored() == after_first


def test_the_job_needs_no_decrypt(notes: Notes):
    """Its role must not be able to read what it moves."""

    class NoDecrypt:
        def __init__(self, kms):
            self.resolve, self.describe = kms.resolve, kms.describe
            self.rewrap, self.would_rewrap = kms.rewrap, kms.would_rewrap

        def refuse(self, *_, **__):
            raise AssertionError("the job tried to see a data key")

        unwrap = generate_data_key = would_unwrap = would_generate = refuse

    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(NoDecrypt(notes.key)))

    report = rewrap(notes.engine, notes.metadata)

    assert report.ok
    assert report.counts.rewritten == 57
    assert report.notes == ()


def test_rewrap_leaves_a_key(notes: Notes, tmp_path):
    """Retiring a key: afterwards its file may go, and all values still open."""
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
    attach_keyrings(notes.metadata, default=Keyring(new, unwrap_only=[notes.key]))

    report = rewrap(notes.engine, notes.metadata)

    attach_keyrings(notes.metadata, default=Keyring(new))
    assert report.ok
    assert notes.texts() == {n: text_of(n) for n in range(30)}
    assert survey(notes.engine, notes.metadata).ok


def test_a_dry_run_counts_and_touches_nothing(notes: Notes):
    """The first thing that anybody does with a job that rewrites a table."""
    notes.key.rotate()
    before = notes.stored()

    with notes.kms.expect():
        report = rewrap(notes.engine, notes.metadata, dry_run=True)

    assert report.dry_run
    assert report.counts.rewritten == 57
    assert notes.stored() == before


def test_a_concurrent_writer_wins(notes: Notes):
    """The value that the application has committed meanwhile is the one that stays."""
    notes.key.rotate()
    writer = Keyring(notes.key)

    def write_and_delete(context):
        attach_keyrings(notes.metadata, writer=writer)
        if context["kmsenv:column"] == "text":
            with notes.engine.begin() as connection:
                same = notes.table.c.id == 5
                connection.execute(update(notes.table).where(same).values(text="written"))
                connection.execute(delete(notes.table).where(notes.table.c.id == 6))

    keyring = Keyring(Interfering(notes.key, write_and_delete))
    attach_keyrings(notes.metadata, default=keyring)
    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    texts = {n: text_of(n) for n in range(30) if n != 6}
    assert notes.texts() == {**texts, 5: "written"}
    assert report.ok
    counts = report.counts
    assert (counts.rewritten, counts.changed, counts.null) == (25, 2, 3)
    assert survey(notes.engine, notes.metadata, columns=[notes.table.c.text]).ok


def test_a_row_that_is_written_under_the_old_key_meanwhile_is_served_at_the_second_look(
    notes: Notes, tmp_path
):
    """A process with the old configuration writes on for a while during a deployment."""
    old = Keyring(notes.key)
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
    wrote: list[int] = []

    def write_with_the_old_key(context):
        if not wrote:
            wrote.append(5)
            attach_keyrings(notes.metadata, default=old)
            with notes.engine.begin() as connection:
                same = notes.table.c.id == 5
                connection.execute(update(notes.table).where(same).values(text="late"))
            attach_keyrings(notes.metadata, default=keyring)

    keyring = Keyring(Interfering(new, write_with_the_old_key), unwrap_only=[notes.key])
    attach_keyrings(notes.metadata, default=keyring)
    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert (report.counts.rewritten, report.counts.changed) == (27, 0)
    assert notes.texts()[5] == "late"
    assert survey(notes.engine, notes.metadata, columns=[notes.table.c.text]).ok


def test_one_bad_row_never_stops_the_job(notes: Notes):
    """Others aborted on the first, and left an unknown number of rows behind."""
    notes.overwrite(3, b"plaintext from before")
    for number in (4, 5):
        # Alone with its data key: no other row says how that is wrapped.
        attach_keyrings(notes.metadata, default=Keyring(notes.kms))
        with notes.engine.begin() as connection:
            same = notes.table.c.id == number
            connection.execute(update(notes.table).where(same).values(text="alone"))
    raw = bytearray(notes.stored()[4])
    raw[60] ^= 1
    notes.overwrite(4, bytes(raw))
    other = LocalKms.create(notes.key._path.with_name("foreign.json"))
    foreign = bytearray(notes.stored()[5])
    foreign[4:12] = parse_header(bytes(foreign)).reference.commitment[:8]
    notes.overwrite(5, bytes(foreign))
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert not report.ok
    assert report.complete
    counts = report.counts
    assert (counts.rewritten, counts.failed, counts.not_envelopes) == (24, 2, 1)
    assert {f.row: f.error for f in report.columns[0].failures} == {
        ("3",): "EnvelopeError",
        ("4",): "WrongCellError",
        ("5",): "ConfigurationError",
    }
    assert other.resolve() not in json.dumps(report.to_json())
    assert "plaintext from before" not in json.dumps(report.to_json())


def test_a_report_is_json_and_says_where_it_stands(notes: Notes):
    """Other programs read it."""
    notes.key.rotate()

    report = json.loads(json.dumps(rewrap(notes.engine, notes.metadata).to_json()))

    assert (report["kind"], report["complete"], report["ok"]) == ("rewrap", True, True)
    assert report["columns"][0]["column"] == "kmsenv_rewrap_notes.text"
    assert report["columns"][0]["counts"]["rewritten"] == 27


def test_no_onupdate_and_no_orm_event_runs(engine, metadata, local_kms):
    """Others bumped updated_at in every row of the table."""
    started = datetime.datetime(2001, 2, 3, 4, 5, 6)  # noqa: DTZ001  as the database stores it
    table = Table(
        "kmsenv_rewrap_touched",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String)),
        Column("touched", DateTime, onupdate=lambda: pytest.fail("onupdate ran")),
        Column("stamped", DateTime),
    )
    attach_keyrings(metadata, default=Keyring(local_kms))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    if engine.dialect.name in ("mysql", "mariadb"):
        with engine.begin() as connection:
            # The model does not say so: the database does.
            connection.execute(
                text(
                    "ALTER TABLE kmsenv_rewrap_touched MODIFY stamped TIMESTAMP NULL"
                    " DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP"
                )
            )
    row = {"text": "a", "touched": started, "stamped": started}
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, **row} for n in range(5)])
    local_kms.rotate()

    assert rewrap(engine, metadata).counts.rewritten == 5

    with engine.connect() as connection:
        found = connection.execute(select(table.c.touched, table.c.stamped)).all()
    assert found == [(started, started)] * 5


def test_a_header_that_is_longer_than_what_is_read_is_read_again(notes: Notes):
    """Wrapped data keys may take 6,144 bytes; most take 184."""

    class Long(Interfering):
        """Wraps with 5,000 bytes more than the other needs."""

        def __init__(self, kms):
            super().__init__(kms, lambda _: None)
            self.generate_data_key = self.generate_long

        def generate_long(self, context):
            made = self._kms.generate_data_key(context)
            return replace(made, wrapped=made.wrapped + bytes(5000))

        def rewrap(self, wrapped, context, **more):
            return self._kms.rewrap(wrapped[:-5000], context, **more)

    attach_keyrings(notes.metadata, default=Keyring(Long(notes.key)))
    notes.fill(5, start=100)
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text], preflight=False)

    # The thirty short ones do not bear the cut that this service makes.
    assert report.counts.rewritten == 5
    attach_keyrings(notes.metadata, default=Keyring(notes.key))
    assert {n: t for n, t in notes.texts().items() if n >= 100} == {
        n: text_of(n) for n in range(100, 105)
    }


def test_large_values_keep_their_bytes(notes: Notes):
    """The database puts the new header before them; they do not travel."""
    large = "x" * (1 << 20)
    with notes.engine.begin() as connection:
        connection.execute(update(notes.table).where(notes.table.c.id == 1).values(text=large))
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.ok
    assert notes.texts()[1] == large


@on("sqlite")
def test_an_update_that_does_not_reach_a_row_is_a_failure_not_a_loop(notes: Notes):
    """A trigger or a row security policy may keep a role from a row that it can read."""
    with notes.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER keep BEFORE UPDATE ON kmsenv_rewrap_notes WHEN old.id = 7"
            " BEGIN SELECT raise(IGNORE); END"
        )
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.counts.failed == 1
    (failure,) = report.columns[0].failures
    assert (failure.row, failure.error) == (("7",), "UnreachedRowError")
    assert report.counts.rewritten == 26


def test_drivers_that_do_not_count_are_asked_what_they_did(notes: Notes):
    """Third-party dialects need not know how many rows an UPDATE hit."""
    notes.engine.dialect.supports_sane_rowcount = False
    notes.engine.dialect.supports_sane_multi_rowcount = False
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata)

    assert report.ok
    assert report.counts.rewritten == 57


def test_finding_no_encrypted_column_is_an_error(engine):
    """Another tool exits 0 having found nothing to do, with the wrong MetaData."""
    metadata = MetaData()
    Table("plain", metadata, Column("id", Integer, primary_key=True))

    for job in (rewrap, survey):
        with pytest.raises(ConfigurationError, match="no encrypted column"):
            job(engine, metadata)
    with pytest.raises(ConfigurationError, match="no encrypted column"):
        rewrap(engine, metadata, columns=[])


def test_a_column_that_is_none_is_refused_with_those_there_are(notes: Notes):
    """A misspelt column must not look like a finished job."""
    with pytest.raises(ConfigurationError, match=r"kmsenv_rewrap_notes\.text"):
        rewrap(notes.engine, notes.metadata, columns=["kmsenv_rewrap_notes.txet"])
    with pytest.raises(ConfigurationError, match="takes a list"):
        rewrap(notes.engine, notes.metadata, columns="kmsenv_rewrap_notes.text")
    with pytest.raises(ConfigurationError, match="not an encrypted column"):
        rewrap(notes.engine, notes.metadata, columns=[notes.table.c.id])


def test_a_table_without_a_primary_key_is_refused_before_the_first_row(engine, metadata, keyring):
    """Its rows cannot be told apart."""
    Table(
        "kmsenv_rewrap_keyless",
        metadata,
        Column("id", Integer, nullable=False, unique=True),
        Column("text", Encrypted(String, identity=["id"])),
    )
    attach_keyrings(metadata, default=keyring)

    with pytest.raises(ConfigurationError, match="no primary key"):
        rewrap(engine, metadata)


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"workers": 0}, {"kms_per_second": 0}, {"kms_patience_seconds": -1}],
)
def test_an_option_that_cannot_be_right_is_refused(notes: Notes, options):
    """A batch of no rows would look like a table that is done."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        rewrap(notes.engine, notes.metadata, **options)
