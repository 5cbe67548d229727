"""Columns whose every row has a data key of its own: no two rows have anything in common."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, String, Table, insert, inspect, select

from sqlalchemy_kmsenv import Encrypted, Keyring, KeyServiceDeniedError, attach_keyrings
from sqlalchemy_kmsenv.kms import CountingKms
from sqlalchemy_kmsenv.rewrap import rewrap, verify
from sqlalchemy_kmsenv.rewrap.renewals import TABLE_NAME
from tests.conftest import on
from tests.rewrap.conftest import Interfering


@pytest.fixture
def own(engine, metadata, local_kms) -> Table:
    """Six rows, under material that is no longer the newest."""
    table = Table(
        "kmsenv_rewrap_own",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String, scope="row")),
    )
    attach_keyrings(metadata, default=Keyring(local_kms))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "text": f"text {n}"} for n in range(6)])
    local_kms.rotate()
    return table


def test_each_row_takes_one_call_and_the_second_run_takes_none(engine, metadata, own, local_kms):
    """What stands at the target stays, as it does where rows share a data key."""
    kms = CountingKms(local_kms)
    attach_keyrings(metadata, default=Keyring(kms))

    with kms.expect(rewrap=6):
        first = rewrap(engine, metadata, batch_size=4)
    with kms.expect():
        second = rewrap(engine, metadata)

    assert (first.ok, first.counts.rewritten) == (True, 6)
    assert (second.ok, second.counts.current) == (True, 6)
    with engine.connect() as connection:
        found = connection.execute(select(own.c.id, own.c.text)).all()
    assert dict(found) == {n: f"text {n}" for n in range(6)}


@on("sqlite")
def test_no_row_leaves_an_entry_behind(engine, metadata, own):
    """A table with an entry for each row would be as large as the job's own."""
    assert rewrap(engine, metadata).ok
    assert not inspect(engine).has_table(TABLE_NAME)


def test_a_row_that_is_refused_fails_alone(engine, metadata, own, local_kms):
    """A policy with conditions on the context may shut out a single one."""

    def deny(context) -> None:
        if context["kmsenv:row"] == "i3":
            raise KeyServiceDeniedError("denied", operation="ReEncrypt", code="AccessDenied")

    attach_keyrings(metadata, default=Keyring(Interfering(local_kms, deny)))

    report = rewrap(engine, metadata)

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (5, 1)
    [failure] = report.columns[0].failures
    assert (failure.row, failure.error) == (("3",), "KeyServiceDeniedError")
    assert verify(engine, metadata).ok
