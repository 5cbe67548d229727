"""A data key that leaked: what was sealed under it is believed nowhere."""

import os

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select, text
from sqlalchemy.pool import NullPool, StaticPool

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Finding,
    Keyring,
    RefusalKind,
    RevokedDataKeys,
    RevokedKeyError,
    attach_keyrings,
    explain,
    open_cells,
)
from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.cell import associated_prefix
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.rewrap import reencrypt, verify
from tests.columns.conftest import overwrite, stored

TABLE = "kmsenv_leaks"


@pytest.fixture
def table(engine, keyring):
    """Three values under one data key."""
    metadata = MetaData()
    table = Table(
        TABLE,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("note", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "note": f"v{n}"} for n in (1, 2, 3)])
    yield table
    metadata.drop_all(engine)


def envelope_of(engine, table, row=1):
    """The stored bytes of a row."""
    with engine.connect() as connection:
        return stored(connection, table.c.note, table.c.id == row)


def leaked_name(engine, table):
    """The commitment of the data key that all values are under."""
    return parse_header(envelope_of(engine, table)).reference.commitment.hex()


def read(engine, table, row):
    """The value of a row."""
    with engine.connect() as connection:
        return connection.scalar(select(table.c.note).where(table.c.id == row))


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_revoked_data_key_opens_nothing_anywhere(engine, table, keyring, warm):
    """A SELECT, by hand, in verify: one that believed it would be the way in."""
    raw, name = envelope_of(engine, table), leaked_name(engine, table)
    if warm:
        assert read(engine, table, 1) == "v1"
    keyring.revoke(name)
    with pytest.raises(RevokedKeyError, match=name) as caught:
        read(engine, table, 1)
    assert caught.value.cell is not None
    assert caught.value.cell.column == "note"
    assert keyring.stats().refusals[RefusalKind.REVOKED_KEY] == 1
    with pytest.raises(RevokedKeyError):
        open_cells(table.c.note, [raw], [{"id": 1}])
    assert explain(table.c.note, raw, {"id": 1}).finding is Finding.REVOKED_KEY
    report = verify(engine, table.metadata)
    assert not report.ok
    assert [each.counts.failed for each in report.columns] == [3]


def test_a_revoked_data_key_seals_nothing(engine, table, keyring):
    """What is written after the leak has to be readable."""
    keyring.revoke(leaked_name(engine, table))
    with engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == 1).values(note="new"))
    assert read(engine, table, 1) == "new"


def test_what_is_forged_after_reencrypt_does_not_open(engine, table, local_kms):
    """Whoever kept the answer of one Decrypt could make values for ever."""
    raw = envelope_of(engine, table)
    header = parse_header(raw)
    name = header.reference.commitment.hex()
    context = {"kmsenv:table": TABLE, "kmsenv:column": "note"}
    arn = local_kms.resolve()
    kept = ValueCipher(local_kms.unwrap(header.reference.wrapped, context, key_arn=arn))
    prefix = associated_prefix(TABLE, "note", 1, 0, header.value_type)

    assert reencrypt(engine, table.metadata, data_keys=[name]).ok

    forged = kept.seal_many(raw[: header.size], prefix, [b"i2:"], [b"forged"], os.urandom(12))[0]
    with engine.begin() as connection:
        overwrite(connection, table, "note", bytes(forged), 2)
    with pytest.raises(RevokedKeyError):
        read(engine, table, 2)
    # Neither a keyring that takes the place of this one, nor a process with the list.
    attach_keyrings(table.metadata, Keyring(local_kms))
    with pytest.raises(RevokedKeyError):
        read(engine, table, 2)
    assert read(engine, table, 1) == "v1"


@pytest.mark.parametrize("how", ["dry", "one column", "not all"])
def test_a_job_that_leaves_something_revokes_nothing(engine, table, keyring, how):
    """Its values would be lost to whoever has not re-encrypted them yet."""
    name = leaked_name(engine, table)
    if how == "not all":
        with engine.begin() as connection:
            overwrite(connection, table, "note", b"\xe5 no envelope", 3)
    columns = [table.c.note] if how == "one column" else None
    reencrypt(engine, table.metadata, data_keys=[name], columns=columns, dry_run=how == "dry")
    assert keyring.revoked == set()


@pytest.fixture
def revoked_from(engine, tmp_path):
    """A table of revoked data keys, through an engine of its own."""
    in_memory = engine.dialect.name == "sqlite"
    url = f"sqlite:///{tmp_path / 'revoked.db'}" if in_memory else engine.url
    own = create_engine(url, poolclass=NullPool)
    listed = RevokedDataKeys(own, table="kmsenv_revoked_test")
    with own.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS kmsenv_revoked_test"))
    listed.create()
    listed.create()
    yield listed
    with own.begin() as connection:
        connection.execute(text("DROP TABLE kmsenv_revoked_test"))
    own.dispose()


def test_a_table_of_revoked_data_keys_is_honoured(engine, table, local_kms, revoked_from):
    """A row reaches every process, without a release."""
    name = leaked_name(engine, table)
    attach_keyrings(table.metadata, Keyring(local_kms, revoked_from=revoked_from))
    assert read(engine, table, 1) == "v1"

    revoked_from.add(name.upper(), reason="laptop stolen")
    revoked_from.add(name)

    assert revoked_from() == [name]
    attach_keyrings(table.metadata, Keyring(local_kms, revoked_from=revoked_from))
    with pytest.raises(RevokedKeyError):
        read(engine, table, 1)
    with pytest.raises(ConfigurationError, match="64 hexadecimal"):
        revoked_from.add("ab")


def test_a_table_that_is_missing_stops_reading(engine, table, local_kms, tmp_path):
    """It was dropped, or the grant was: nobody knows what may be believed."""
    own = create_engine(f"sqlite:///{tmp_path / 'none.db'}", poolclass=NullPool)
    attach_keyrings(table.metadata, Keyring(local_kms, revoked_from=RevokedDataKeys(own)))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(engine, table, 1)


def test_a_list_that_cannot_be_read_is_no_matter_of_a_stored_value(engine, table, local_kms):
    """It would be an alarm of damage for each value, in words about another KMS key."""
    told: list[str | None] = []

    def broken():
        raise OSError

    keyring = Keyring(local_kms, revoked_from=broken, audit=lambda use: told.append(use.error))
    attach_keyrings(table.metadata, keyring)
    marks = engine.execution_options(kmsenv_on_refusal="mark")

    for where in (engine, marks):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read(where, table, 1)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        explain(table.c.note, envelope_of(engine, table), {"id": 1})
    report = verify(engine, table.metadata)
    assert {f.finding for each in report.columns for f in each.failures} == {Finding.KEY_SERVICE}
    assert keyring.stats().values_refused == 0
    assert told == []


def test_an_engine_with_one_connection_for_all_is_refused():
    """Reading the table would end the transaction of whoever is using it."""
    with pytest.raises(ConfigurationError, match="of its own"):
        RevokedDataKeys(create_engine("sqlite://", poolclass=StaticPool))
