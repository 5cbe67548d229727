import json

from sqlalchemy import Column, Enum, Integer, Table, insert, update

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.rewrap import verify
from tests.rewrap.conftest import Notes


def test_every_value_is_opened_and_none_is_printed(notes: Notes):
    """After a migration, the one question is whether everything can still be read."""
    attach_keyrings(notes.metadata, default=Keyring(notes.kms))
    notes.kms.reset()

    with notes.kms.expect(unwrap=4):
        report = verify(notes.engine, notes.metadata, batch_size=7, workers=2)

    assert report.ok
    # A role that may only Decrypt can verify.
    assert set(notes.kms.inquiries) == {"would_unwrap"}
    assert (report.counts.opened, report.counts.null, report.counts.rewritten) == (57, 3, 0)
    assert "text 1" not in json.dumps(report.to_json())


def test_what_does_not_open_is_named_with_what_is_the_matter(notes: Notes, tmp_path):
    """Where to look, and for what."""
    raw = notes.stored()
    notes.overwrite(0, b"plaintext from before")
    notes.overwrite(1, raw[2])
    notes.overwrite(3, notes.stored("secret")[3])
    header = parse_header(raw[4])
    notes.overwrite(4, bytes(8).join((raw[4][:4], raw[4][12:])))
    damaged = bytearray(raw[5])
    damaged[25] ^= 1
    notes.overwrite(5, bytes(damaged))

    report = verify(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert header.size > 25
    assert not report.ok
    assert (report.counts.opened, report.counts.failed, report.counts.not_envelopes) == (22, 4, 1)
    assert {f.row[0]: f.finding for f in report.columns[0].failures} == {
        "0": "no envelope",
        "1": "other row or damaged",
        "3": "other key context",
        "4": "other KMS key",
        "5": "damaged key reference",
    }
    shown = json.dumps(report.to_json())
    assert "plaintext from before" not in shown
    assert "text 2" not in shown


def test_a_value_of_another_type_is_found(engine, metadata, local_kms):
    """It opens, but the application would fail on it."""
    keyring = Keyring(local_kms)

    def table_of(inner):
        metadata.clear()
        attach_keyrings(metadata, default=keyring)
        return Table(
            "kmsenv_rewrap_typed",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("value", Encrypted(inner)),
        )

    table = table_of(Enum("RED", "BLUE", name="colours"))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "value": "RED"}])

    table_of(Enum("GREEN", "BLUE", name="colours"))
    report = verify(engine, metadata)

    assert [failure.finding for failure in report.columns[0].failures] == ["other type"]
    assert "RED" not in json.dumps(report.to_json())


def test_large_values_are_read_by_themselves(notes: Notes):
    """A page of them would not fit in memory."""
    with notes.engine.begin() as connection:
        for n in range(3):
            same = notes.table.c.id == n
            connection.execute(update(notes.table).where(same).values(text="x" * 100_000))

    assert verify(notes.engine, notes.metadata).counts.opened == 57


def test_a_keyring_that_lacks_the_key_is_found(notes: Notes, tmp_path):
    """The configuration of the new release is tried before it is deployed."""
    other = LocalKms.create(tmp_path / "other.json")
    attach_keyrings(notes.metadata, default=Keyring(other))

    report = verify(notes.engine, notes.metadata)

    assert report.counts.failed == 57
    assert {f.finding for f in report.columns[0].failures} == {"other KMS key"}


def test_the_audit_hook_is_told_of_what_a_job_opens_and_of_what_it_refuses(notes: Notes):
    """A job reads a whole table: that must not be the way around the journal."""
    told: list[tuple[str, str]] = []
    keyring = Keyring(notes.kms, audit=lambda use: told.append((use.operation, use.outcome)))
    attach_keyrings(notes.metadata, default=keyring)
    notes.overwrite(2, notes.stored()[1])

    report = verify(notes.engine, notes.metadata, columns=["kmsenv_rewrap_notes.text"])

    assert report.counts.failed == 1
    assert ("open", "done") in told
    assert told.count(("open", "refused")) == 1


def test_a_data_key_of_another_context_is_asked_for_once(notes: Notes, monkeypatch):
    """The key service is paid for its refusals, and a job takes longer than a keyring keeps one."""
    monkeypatch.setattr("sqlalchemy_kmsenv.defaults.REFUSALS_KEPT_SECONDS", 0)
    for key, raw in notes.stored("secret").items():
        if key < 18:
            notes.overwrite(key, raw)
    attach_keyrings(notes.metadata, default=Keyring(notes.kms))
    columns = [notes.table.c.text]

    # The data keys of three tenants, by turns, and that of the column.
    with notes.kms.expect(unwrap=4):
        report = verify(notes.engine, notes.metadata, columns=columns, preflight=False)

    assert (report.counts.failed, report.counts.opened, report.counts.null) == (18, 10, 2)
    assert {failure.finding for failure in report.columns[0].failures} == {"other key context"}
