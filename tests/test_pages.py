"""The pages about auditing and operating say what the code does."""

import datetime
import json
import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from sqlalchemy_kmsenv import KeyringStats, KeyUse
from sqlalchemy_kmsenv.access import Role, clocks, doctor, keys, permissions, schema
from sqlalchemy_kmsenv.keyring import telemetry
from tests.conftest import on
from tests.test_docs import python_blocks

DOCS = Path(__file__).parent.parent / "docs"
AUDITING = (DOCS / "auditing.md").read_text(encoding="utf-8")
OPERATING = (DOCS / "operating.md").read_text(encoding="utf-8")


def first_cells(page, heading):
    """The first cell of each line of the tables below a heading."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return [row for row in rows if not row.startswith("---")]


def test_example_of_a_hook_runs_and_tells(tmp_path, monkeypatch, caplog):
    """It is what people copy."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, logger="audit")
    namespace = {"__name__": "auditing"}

    for block in python_blocks(DOCS / "auditing.md"):
        exec(compile(block, "auditing.md", "exec"), namespace)  # noqa: S102  the project's own
    keyring: object = namespace["keyring"]
    keyring.seal_many((("a", "b"),), 2, b"p", [b"i1:"], [b"x"])  # type: ignore[attr-defined]

    told = [json.loads(record.getMessage()) for record in caplog.records]
    assert [one["operation"] for one in told] == ["generate", "seal"]
    assert {one["user"] for one in told} == {"nobody"}


def test_every_number_is_on_the_page():
    """One table of fields, and it is whole."""
    listed = re.findall(r"`(\w+)`", " ".join(first_cells(AUDITING, "Numbers")))

    assert listed == list(KeyringStats.__dataclass_fields__)


def test_every_metric_is_on_the_page():
    """A name that is found in a dashboard has to be found there."""
    listed = set(
        re.findall(r"`(kmsenv\.[\w.]+)`", " ".join(first_cells(AUDITING, "OpenTelemetry")))
    )
    named = {
        *telemetry._COUNTERS,
        telemetry._HELD[0],
        "kmsenv.kms.duration",
        *(f"kmsenv.kms.{operation}" for operation in ("generate", "unwrap", "rewrap")),
    }

    assert listed == named


def test_every_field_of_a_record_is_on_the_page():
    """Somebody has to make a table for it."""
    for name in (*KeyUse.__dataclass_fields__, "outcome"):
        assert f"`{name}`" in AUDITING, name


def test_every_question_is_on_the_page():
    """And no other: an answer that is not explained helps nobody."""
    asked = [
        keys.CREDENTIALS,
        keys.REACHABLE,
        keys.DESCRIBED,
        keys.ENABLED,
        keys.SYMMETRIC,
        keys.ROTATION,
        clocks.STEADY,
        clocks.CACHE,
        clocks.CLOCK,
        schema.WIDE_ENOUGH,
        schema.NOT_NULL,
        doctor.ENVELOPES,
        permissions.MAY_MAKE,
        permissions.MAY_UNWRAP,
        permissions.MAY_REWRAP,
    ]

    assert first_cells(OPERATING, "The doctor")[1:] == asked
    roles = first_cells(OPERATING, "The least policy for a role")[1:]
    assert roles == [f"`{role}`" for role in Role]


@pytest.fixture
def key_uses(engine):
    """The table of the page, with uses by three people."""
    create = (
        'CREATE TABLE key_uses (at TIMESTAMPTZ, operation TEXT, outcome TEXT, "user" TEXT,'
        " keyring TEXT, context JSONB, request_id TEXT)"
    )
    insert = text(
        "INSERT INTO key_uses VALUES (:at, :operation, 'done', :user, 'k', CAST(:context AS JSONB),"
        " NULL)"
    )
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS key_uses"))
        connection.execute(text(create))
        for user, month, device, operation in (
            ("ada", 3, "bus-7", "open"),
            ("ada", 3, "bus-7", "open"),
            ("bob", 3, "bus-8", "open"),
            ("bob", 4, "bus-7", "open"),
            ("cyd", 3, "bus-7", "seal"),
        ):
            pairs = {"kmsenv:table": "pings", "kmsenv:column": "position", "device_id": device}
            at = datetime.datetime(2026, month, 5, tzinfo=datetime.UTC)
            row = {"at": at, "operation": operation, "user": user, "context": json.dumps(pairs)}
            connection.execute(insert, row)
    yield
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE key_uses"))


@on("postgresql")
def test_query_of_the_journal_answers_who_read_the_device_in_march(engine, key_uses):
    """The page claims that it was run."""
    query = next(
        block
        for block in re.findall(r"```sql\n(.*?)```", AUDITING, re.DOTALL)
        if "GROUP BY" in block
    )

    with engine.connect() as connection:
        rows = connection.exec_driver_sql(query.replace("%", "%%")).all()

    assert [(row.user, row.statements) for row in rows] == [("ada", 2)]
