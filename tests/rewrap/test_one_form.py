"""A data key has one wrapped form at the target, whoever re-wraps it, and however often."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, inspect, select
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv import Keyring, attach_keyrings
from sqlalchemy_kmsenv.envelope import InlineReference, parse_header, serialize_header
from sqlalchemy_kmsenv.errors import KeyServiceDeniedError
from sqlalchemy_kmsenv.kms import CountingKms
from sqlalchemy_kmsenv.rewrap import TableCheckpoint, rewrap, survey, verify
from sqlalchemy_kmsenv.rewrap.renewals import TABLE_NAME
from tests.conftest import on
from tests.rewrap.conftest import Notes, make_notes, text_of

TENANTS = 12
ROWS = 120


@pytest.fixture(autouse=True)
def renewals_table(engine):
    """Leaves no table of renewals behind."""
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {TABLE_NAME}")
        connection.exec_driver_sql("DROP TABLE IF EXISTS kmsenv_checkpoints")


@pytest.fixture
def crowd(engine, metadata, local_kms) -> Notes:
    """Rows of many tenants, one behind the other, so that each page has all of them."""
    made = make_notes(engine, metadata, local_kms)
    rows = [
        {"id": n, "tenant": n % TENANTS, "text": None, "secret": f"secret {n}"} for n in range(ROWS)
    ]
    with engine.begin() as connection:
        connection.execute(insert(made.table), rows)
    return made


class ReWrapRole:
    """A key service for a role that may re-wrap and nothing else."""

    def __init__(self, kms: Any) -> None:
        self.resolve, self.describe, self.rewrap = kms.resolve, kms.describe, kms.rewrap
        self.would_rewrap = kms.would_rewrap

    def refuse(self, *_: Any, **__: Any) -> Any:
        """As a policy does."""
        raise KeyServiceDeniedError("not allowed")

    unwrap = generate_data_key = would_unwrap = would_generate = refuse


def references(notes: Notes, name: str = "secret") -> dict[int, InlineReference]:
    """The key references by row."""
    stored = notes.stored(name).items()
    return {key: parse_header(raw).reference for key, raw in stored if raw}


def forms(notes: Notes, name: str = "secret") -> int:
    """How many distinct wrapped data keys stand in a column."""
    return len({reference.wrapped for reference in references(notes, name).values()})


def secrets_of(notes: Notes) -> dict[int, str]:
    """The values by key, opened by a keyring that has seen nothing yet."""
    attach_keyrings(notes.metadata, default=Keyring(notes.key))
    table = notes.table
    with notes.engine.connect() as connection:
        return dict(connection.execute(select(table.c.id, table.c.secret)).all())


def multiply(notes: Notes) -> None:
    """Wrap the data key of each row anew by itself, as jobs of before did."""
    keyring = Keyring(notes.key)
    for key, raw in notes.stored("secret").items():
        header = parse_header(raw)
        pairs = (
            ("kmsenv:column", "secret"),
            ("kmsenv:table", notes.table.name),
            ("tenant", str(key % TENANTS)),
        )
        new = serialize_header(keyring.rewrap(pairs, header.reference), header.value_type)
        notes.overwrite(key, new + raw[header.size :], "secret")


class Killed(BaseException):
    """What ends a job at once, as a signal does."""


def kill_after(pages: int) -> Any:
    """An ``on_progress`` that ends the job after so many pages."""
    seen: list[int] = []

    def told(_: object) -> None:
        seen.append(1)
        if len(seen) == pages:
            raise Killed

    return told


EXPECTED = {n: f"secret {n}" for n in range(ROWS)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("may_decrypt", [True, False])
def test_wrapped_data_keys_never_grow(crowd: Notes, seed, may_decrypt, tmp_path):
    """Each form costs every cold reader a Decrypt, and old jobs made new ones at each run."""
    chance = random.Random(seed)  # noqa: S311  a seed makes runs alike
    role: Any = crowd.key if may_decrypt else ReWrapRole(crowd.key)
    checkpoint = [tmp_path / "job.json", TableCheckpoint()][seed % 2]
    for _ in range(3):
        crowd.key.rotate()
        attach_keyrings(crowd.metadata, default=Keyring(role))
        before = forms(crowd)
        for _ in range(2):
            workers = chance.choice([1, 3])
            with pytest.raises(Killed):
                rewrap(
                    crowd.engine,
                    crowd.metadata,
                    columns=["kmsenv_rewrap_notes.secret"],
                    batch_size=chance.choice([5, 17]),
                    partitions=workers,
                    checkpoint=checkpoint,
                    on_progress=kill_after(chance.randint(1, 4)),
                )
        report = rewrap(
            crowd.engine, crowd.metadata, columns=["kmsenv_rewrap_notes.secret"],
            checkpoint=checkpoint,
        )  # fmt: skip

        assert report.ok, report.to_json()
        assert forms(crowd) <= before
        assert survey(crowd.engine, crowd.metadata).ok
    assert forms(crowd) == TENANTS
    assert secrets_of(crowd) == EXPECTED


@on("postgresql", "mariadb")
@pytest.mark.parametrize("killed", [False, True])
def test_jobs_at_once_agree_on_one_form(crowd: Notes, killed):
    """Two operators, or a cron job that is late: neither knows of the other."""
    crowd.key.rotate()
    attach_keyrings(crowd.metadata, default=Keyring(crowd.key))
    if killed:
        with pytest.raises(Killed):
            rewrap(
                crowd.engine, crowd.metadata, batch_size=7, partitions=4,
                on_progress=kill_after(6),
            )  # fmt: skip
    reports: list[Any] = []

    def job() -> None:
        engine = create_engine(crowd.engine.url)
        reports.append(rewrap(engine, crowd.metadata, batch_size=10, partitions=3))
        engine.dispose()

    threads = [threading.Thread(target=job) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [report.stopped for report in reports] == [None] * 3
    assert forms(crowd) == TENANTS
    assert secrets_of(crowd) == EXPECTED


def test_a_column_that_was_multiplied_is_repaired(crowd: Notes):
    """One Decrypt proves what a form holds, and it takes the place of all others."""
    multiply(crowd)
    assert forms(crowd) == ROWS
    kms = CountingKms(crowd.key)
    attach_keyrings(crowd.metadata, default=Keyring(kms))

    with kms.expect(unwrap=TENANTS):
        report = rewrap(crowd.engine, crowd.metadata)

    assert report.ok
    assert report.counts.rewritten == ROWS - TENANTS
    assert forms(crowd) == TENANTS
    assert secrets_of(crowd) == EXPECTED
    with kms.expect():
        assert rewrap(crowd.engine, crowd.metadata).counts.rewritten == 0


def test_a_role_that_may_not_decrypt_leaves_what_it_cannot_prove(crowd: Notes):
    """Nothing but the commitment says that two forms hold one data key: anybody can write it."""
    multiply(crowd)
    attach_keyrings(crowd.metadata, default=Keyring(ReWrapRole(crowd.key)))

    report = rewrap(crowd.engine, crowd.metadata)

    assert report.ok
    assert any("kms:Decrypt" in note for note in report.notes)
    assert forms(crowd) == ROWS
    assert secrets_of(crowd) == EXPECTED


@pytest.mark.parametrize("may_decrypt", [True, False])
@pytest.mark.parametrize("at_target", [True, False])
@pytest.mark.parametrize("planted", [0, ROWS - TENANTS])
def test_a_planted_header_destroys_no_value(crowd: Notes, may_decrypt, at_target, planted):
    """Another data key beside the victims' commitment, in the first row or in the last."""
    crowd.key.rotate() if at_target else None
    attach_keyrings(crowd.metadata, default=Keyring(crowd.key))
    with crowd.engine.begin() as connection:
        row = {"id": ROWS, "tenant": 0, "text": None, "secret": "the attacker's"}
        connection.execute(insert(crowd.table), [row])
    foreign = references(crowd)[ROWS]
    victim = crowd.stored("secret")[planted]
    header = parse_header(victim)
    false = InlineReference(
        foreign.fingerprint, foreign.material_hint, header.reference.commitment, foreign.wrapped
    )
    made = serialize_header(false, header.value_type) + victim[header.size :]
    crowd.overwrite(planted, made, "secret")
    crowd.key.rotate() if not at_target else None
    role: Any = crowd.key if may_decrypt else ReWrapRole(crowd.key)
    attach_keyrings(crowd.metadata, default=Keyring(role))

    report = rewrap(crowd.engine, crowd.metadata, columns=["kmsenv_rewrap_notes.secret"])

    # Nor does it keep the others from the target.
    assert report.counts.failed == 0
    attach_keyrings(crowd.metadata, default=Keyring(crowd.key))
    found = verify(crowd.engine, crowd.metadata, columns=["kmsenv_rewrap_notes.secret"])
    assert {failure.row for failure in found.columns[0].failures} <= {(str(planted),)}
    assert found.counts.opened >= ROWS


@pytest.mark.parametrize("batch_size", [5, 1000])
def test_a_planted_header_does_not_keep_the_others_apart(crowd: Notes, batch_size):
    """It stands first, and is false: one of the others, which is proved, takes its place."""
    multiply(crowd)
    assert forms(crowd) == ROWS
    header = parse_header(crowd.stored("secret")[0])
    false = replace(header.reference, wrapped=references(crowd)[1].wrapped)
    rest = crowd.stored("secret")[0][header.size :]
    crowd.overwrite(0, serialize_header(false, header.value_type) + rest, "secret")
    attach_keyrings(crowd.metadata, default=Keyring(crowd.key))
    columns = ["kmsenv_rewrap_notes.secret"]

    report = rewrap(crowd.engine, crowd.metadata, columns=columns, batch_size=batch_size)

    assert report.complete
    others = {key: each for key, each in references(crowd).items() if key != 0}
    assert len({each.wrapped for each in others.values()}) == TENANTS
    found = verify(crowd.engine, crowd.metadata, columns=columns)
    assert found.counts.opened >= ROWS - 1


def test_an_entry_of_somebody_else_is_not_believed(crowd: Notes):
    """Whoever may write to the table of renewals must not decide what stands in others."""
    columns = ["kmsenv_rewrap_notes.secret"]
    crowd.key.rotate()
    attach_keyrings(crowd.metadata, default=Keyring(crowd.key))
    with pytest.raises(Killed):
        rewrap(
            crowd.engine, crowd.metadata, columns=columns, batch_size=5, on_progress=kill_after(1)
        )
    with crowd.engine.begin() as connection:
        changed = connection.exec_driver_sql(
            f"UPDATE {TABLE_NAME} SET wrapped ="
            f" (SELECT w FROM (SELECT MAX(wrapped) AS w FROM {TABLE_NAME}) AS x)"
            if crowd.engine.dialect.name != "postgresql"
            else f"UPDATE {TABLE_NAME} SET wrapped = '\\x00'"
        )
        assert changed.rowcount == 5
    attach_keyrings(crowd.metadata, default=Keyring(ReWrapRole(crowd.key)))

    assert rewrap(crowd.engine, crowd.metadata, columns=columns).ok

    assert secrets_of(crowd) == EXPECTED


def test_a_damaged_header_is_mended_where_its_data_key_stands_elsewhere(notes: Notes):
    """The commitment names the data key, and the KMS says which form holds it."""
    raw = bytearray(notes.stored()[4])
    raw[60] ^= 1
    notes.overwrite(4, bytes(raw))
    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(notes.key))

    assert rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text]).ok

    assert notes.texts() == {n: text_of(n) for n in range(30)}


@on("sqlite", "postgresql")
def test_a_role_that_may_make_no_table_is_told(crowd: Notes):
    """The job goes on with a file of its own, and says what that costs."""

    @event.listens_for(crowd.engine, "before_cursor_execute")
    def refuse(conn, cursor, statement, *_):
        if "CREATE TABLE" in statement:
            raise OperationalError(statement, {}, Exception("permission denied for schema"))

    crowd.key.rotate()

    report = rewrap(crowd.engine, crowd.metadata, batch_size=10)

    assert report.ok
    assert [note for note in report.notes if TABLE_NAME in note]
    assert not inspect(crowd.engine).has_table(TABLE_NAME)
    assert forms(crowd) == TENANTS


def test_a_complete_job_leaves_no_entries(crowd: Notes):
    """They are about what is over."""
    crowd.key.rotate()

    rewrap(crowd.engine, crowd.metadata)

    with crowd.engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {TABLE_NAME}").scalar() == 0


def test_more_keys_than_memory_takes_are_wrapped_once(engine, metadata, local_kms, monkeypatch):
    """Memory has a bound, and what leaves it is found in the table."""
    monkeypatch.setattr("sqlalchemy_kmsenv.defaults.REWRAP_CACHE_ENTRIES", 5)
    made = make_notes(engine, metadata, local_kms)
    with engine.begin() as connection:
        rows = [
            {"id": n, "tenant": n % TENANTS, "text": None, "secret": f"secret {n}"}
            for n in range(ROWS)
        ]
        connection.execute(insert(made.table), rows)
    made.key.rotate()
    kms = CountingKms(made.key)
    attach_keyrings(metadata, default=Keyring(kms))

    with kms.expect(rewrap=TENANTS):
        assert rewrap(engine, metadata, batch_size=9, preflight=False).ok

    assert forms(made) == TENANTS
