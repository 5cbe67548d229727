"""Values of the type that a column had before."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    column,
    insert,
    select,
    table,
    update,
)

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings
from sqlalchemy_kmsenv.cell import associated_prefix
from sqlalchemy_kmsenv.rewrap import reencrypt, verify


def model(inner: Any, pad_to: int | None = None) -> tuple[MetaData, Table]:
    """One column of a type."""
    metadata = MetaData()
    made = Table(
        "kmsenv_changed_types",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", Encrypted(inner, pad_to=pad_to)),
    )
    return metadata, made


@pytest.fixture
def changed(engine, local_kms):
    """Texts in a column of integers, one of them none, and an integer among them."""
    old, table = model(String, pad_to=16)
    attach_keyrings(old, default=Keyring(local_kms))
    old.drop_all(engine)
    old.create_all(engine)
    with engine.begin() as connection:
        given = [{"id": 1, "value": "12"}, {"id": 2, "value": "twelve"}, {"id": 3, "value": "34"}]
        connection.execute(insert(table), given)
    new, table = model(Integer)
    attach_keyrings(new, default=Keyring(local_kms))
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 4, "value": 56}])
    yield new, table
    old.drop_all(engine)


def test_values_of_another_type_are_failures_and_stay(engine, changed):
    """Sealed again they would be found by nobody, until a program breaks on one."""
    metadata, _ = changed

    for job in (verify, reencrypt):
        report = job(engine, metadata)

        assert not report.ok
        assert [f.row for f in report.columns[0].failures] == [("1",), ("2",), ("3",)]
        assert {f.finding for f in report.columns[0].failures} == {"other type"}
        assert "twelve" not in str(report.to_json())


def test_a_job_converts_them_when_asked(engine, changed):
    """What the function cannot convert is a failure, and what fits is left alone."""
    metadata, table = changed

    report = reencrypt(engine, metadata, convert=int)

    counts = report.counts
    assert (counts.rewritten, counts.current, counts.failed) == (2, 1, 1)
    [failure] = report.columns[0].failures
    assert failure.row == ("2",)
    assert "ValueError" in failure.message
    assert "twelve" not in failure.message
    with engine.connect() as connection:
        query = select(table.c.id, table.c.value).where(table.c.id != 2)
        assert dict(connection.execute(query).all()) == {1: 12, 3: 34, 4: 56}
    assert reencrypt(engine, metadata, convert=lambda _: 0).counts.rewritten == 1
    assert verify(engine, metadata).ok


@pytest.mark.parametrize("made", [None, "text", 1.5])
def test_what_the_function_makes_must_be_a_value_of_the_column(engine, changed, made):
    """Nothing is written that could not be read."""
    metadata, _ = changed

    report = reencrypt(engine, metadata, convert=lambda _: made)

    assert (report.counts.rewritten, report.counts.failed) == (0, 3)


def test_a_value_of_a_type_that_this_release_does_not_know_is_not_converted(
    engine, changed, local_kms
):
    """A later release wrote it: nobody here can say what it is, and it opens there."""
    metadata, model_table = changed
    unknown = 0x50
    pairs = (("kmsenv:column", "value"), ("kmsenv:table", model_table.name))
    prefix = associated_prefix(model_table.name, "value", 1, 0, unknown)
    (sealed,) = Keyring(local_kms).seal_many(pairs, unknown, prefix, [b"i2:"], [b"later"])
    bare = table(model_table.name, column("id", Integer), column("value", LargeBinary))
    with engine.begin() as connection:
        same = update(bare).where(bare.c.id == 2)
        connection.execute(same.values(value=bytes(sealed)))

    report = reencrypt(engine, metadata, convert=lambda _: 5)

    assert (report.counts.rewritten, report.counts.current) == (2, 1)
    assert (report.counts.failed, report.counts.not_envelopes) == (0, 1)
    [failure] = report.columns[0].failures
    assert (failure.row, failure.error) == (("2",), "EnvelopeError")
    with engine.connect() as connection:
        query = select(bare.c.value).where(bare.c.id == 2)
        assert bytes(connection.scalar(query)) == bytes(sealed)
