"""What a job does when the key service or the database fails under it."""

import threading
import time
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from sqlalchemy_kmsenv import (
    AwsKms,
    Keyring,
    KeyServiceDeniedError,
    KeyServiceUnavailableError,
    KeyStateError,
    LocalKms,
    attach_keyrings,
)
from sqlalchemy_kmsenv.rewrap import PreflightError, reencrypt, rewrap, survey, verify
from tests.conftest import ABSENT, on
from tests.kms.aws_stub import Answer, error, running_stub, session
from tests.rewrap.conftest import Interfering, Notes, text_of


@pytest.fixture(params=["sqlite"])
def database(request) -> str:
    """One is enough for most of these: what fails is not the database."""
    if request.param in ABSENT:
        pytest.skip(ABSENT[request.param])
    return request.param


def interfered(notes: Notes, meanwhile) -> None:
    """Let something happen at each ReEncrypt."""
    attach_keyrings(notes.metadata, default=Keyring(Interfering(notes.key, meanwhile)))


def throttle():
    """What a key service answers that is asked too often."""
    return KeyServiceUnavailableError("throttled", operation="ReEncrypt", code="Throttling")


def deny():
    """What it answers to a role that may not."""
    return KeyServiceDeniedError("denied", operation="ReEncrypt", code="AccessDeniedException")


def test_throttling_is_waited_for(notes: Notes):
    """A quota that is shared with the application is reached every now and then."""
    notes.key.rotate()
    left = [3]

    def meanwhile(_):
        left[0] -= 1
        if left[0] >= 0:
            raise throttle()

    interfered(notes, meanwhile)
    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.ok
    assert report.counts.kms_calls == 4


def test_a_key_service_that_stays_away_stops_the_job_and_the_next_run_finishes(
    notes: Notes, tmp_path
):
    """No row fails for an outage, and no million of failures is written down."""
    notes.key.rotate()
    away = [True]

    def meanwhile(context):
        if context.get("tenant") == "2" and away[0]:
            raise throttle()

    interfered(notes, meanwhile)
    options: dict[str, Any] = {
        "batch_size": 1,
        "checkpoint": tmp_path / "c.json",
        "kms_patience_seconds": 0.2,
    }
    first = rewrap(notes.engine, notes.metadata, **options)
    away[0] = False
    second = rewrap(notes.engine, notes.metadata, **options)

    assert not first.complete
    assert str(first.stopped).startswith("the key service is not available")
    assert first.counts.failed == 0
    assert first.columns[1].counts.rewritten == 2
    assert second.ok
    assert second.counts.rewritten == 57


def test_a_denied_tenant_is_its_rows_matter(notes: Notes):
    """IAM conditions on the context may shut out a tenant; the others are served."""
    notes.key.rotate()

    def meanwhile(context):
        if context.get("tenant") == "1":
            raise deny()

    interfered(notes, meanwhile)
    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.secret])

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (20, 10)
    assert {failure.error for failure in report.columns[0].failures} == {"KeyServiceDeniedError"}
    assert report.columns[0].failures[0].message == "denied"


def test_access_that_is_denied_in_the_middle_stops_the_job_and_the_next_run_finishes(
    notes: Notes, tmp_path
):
    """Somebody edits a policy; what was refused must be looked at again."""
    own_tenants = [{"id": n, "tenant": n, "secret": f"secret {n}"} for n in range(100, 120)]
    with notes.engine.begin() as connection:
        connection.execute(insert(notes.table), own_tenants)
    notes.key.rotate()
    calls = [0]

    def meanwhile(_):
        calls[0] += 1
        if 8 <= calls[0] <= 12:
            raise deny()

    interfered(notes, meanwhile)
    options: dict[str, Any] = {
        "columns": [notes.table.c.secret],
        "batch_size": 1,
        "checkpoint": tmp_path / "c.json",
        "give_up_after": 5,
    }
    first = rewrap(notes.engine, notes.metadata, **options)
    second = rewrap(notes.engine, notes.metadata, **options)

    assert str(first.stopped).startswith("the key service refused 5 rows in a row")
    assert (first.counts.rewritten, first.counts.failed) == (34, 5)
    assert second.ok
    assert (second.counts.rows, second.counts.rewritten, second.counts.failed) == (50, 50, 0)


def test_a_key_that_is_disabled_half_way_stops_the_job(notes: Notes, tmp_path):
    """Then nothing can be read either; the job says which key it is."""
    notes.key.rotate()
    calls = [0]

    def meanwhile(_):
        calls[0] += 1
        if calls[0] == 2:
            notes.key.disable()

    interfered(notes, meanwhile)
    options: dict[str, Any] = {
        "batch_size": 10,
        "checkpoint": tmp_path / "c.json",
        "give_up_after": 10,
    }
    first = rewrap(notes.engine, notes.metadata, **options)
    notes.key.enable()
    second = rewrap(notes.engine, notes.metadata, **options)

    assert "KeyStateError" in str(first.stopped)
    assert notes.key.resolve() in str(first.stopped)
    assert second.ok
    assert survey(notes.engine, notes.metadata).ok


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, InternalError])
def test_a_database_that_is_away_for_a_second_is_asked_again(notes: Notes, error):
    """A deadlock with the application, a connection that was lost, a server that restarts."""
    notes.key.rotate()
    back: list[float] = []

    @event.listens_for(notes.engine, "before_cursor_execute")
    def fail(_, __, sql, *___):
        if sql.startswith("UPDATE"):
            back.append(time.monotonic() + 1)
            if time.monotonic() < back[0]:
                raise error(sql, {}, Exception("server is gone"))

    report = rewrap(notes.engine, notes.metadata)

    assert report.ok
    assert report.counts.rewritten == 57


def test_a_database_that_stays_away_stops_the_job_and_the_next_run_finishes(notes: Notes, tmp_path):
    """The report tells, without the parameters of a statement."""
    notes.key.rotate()
    pages = [0]

    @event.listens_for(notes.engine, "before_cursor_execute")
    def fail(_, __, sql, *___):
        if sql.startswith("UPDATE"):
            pages[0] += 1
            if pages[0] > 3:
                raise OperationalError(sql, {"a": "secret 7"}, Exception("server is gone"))

    options: dict[str, Any] = {"batch_size": 5, "checkpoint": tmp_path / "c.json"}
    first = rewrap(notes.engine, notes.metadata, **options)
    event.remove(notes.engine, "before_cursor_execute", fail)
    second = rewrap(notes.engine, notes.metadata, **options)

    assert first.stopped == "the database failed (Exception): server is gone"
    assert first.counts.rows == 15
    assert second.ok
    assert second.counts.rewritten == 57
    assert notes.texts() == {n: text_of(n) for n in range(30)}


@on("postgresql")
def test_connections_that_the_server_cuts_are_opened_again(notes: Notes):
    """An administrator restarts a pooler in the middle of the night."""
    notes.key.rotate()
    killer = create_engine(notes.engine.url)
    cut: list[int] = []
    used: list[int] = []

    @event.listens_for(notes.engine, "checkout")
    def remember(connection, *_):
        used.append(connection.info.backend_pid)

    def meanwhile(_):
        query = f"SELECT pg_terminate_backend({used[-1]})"
        with killer.connect() as connection:
            cut.append(connection.exec_driver_sql(query).scalar_one())

    interfered(notes, meanwhile)
    try:
        report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])
    finally:
        killer.dispose()

    assert cut == [True]
    assert report.ok
    assert report.counts.rewritten == 27


@pytest.mark.parametrize("error", [KeyServiceDeniedError, KeyStateError])
def test_the_preflight_says_what_is_missing_before_the_first_row(notes: Notes, error):
    """Not after an hour, and not one permission at a time."""

    class Refusing(Interfering):
        def __init__(self, kms):
            super().__init__(kms, lambda _: pytest.fail("a row was touched"))
            self.would_rewrap = self.would_unwrap = self.would_generate = self.refuse

        def refuse(self, context, **_):
            if context["kmsenv:column"] == "secret":
                raise error("refused")

    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(Refusing(notes.key)))

    with pytest.raises(PreflightError) as caught:
        rewrap(notes.engine, notes.metadata)

    missing = caught.value.missing
    assert [m.operation for m in missing] == ["ReEncrypt"] * 3
    assert {dict(m.context)["tenant"] for m in missing} == {"0", "1", "2"}
    assert "kms:ReEncryptFrom" in str(caught.value)
    assert notes.key.resolve() in str(caught.value)
    for job, operations in ((verify, {"Decrypt"}), (reencrypt, {"Decrypt", "GenerateDataKey"})):
        with pytest.raises(PreflightError) as caught:
            job(notes.engine, notes.metadata)
        assert {m.operation for m in caught.value.missing} == operations


def test_a_context_that_is_refused_beforehand_is_its_rows_matter(notes: Notes):
    """One orphan under a key that is gone must not keep every other row from its target."""

    class Refusing(Interfering):
        def __init__(self, kms):
            super().__init__(kms, self.refuse)
            self.would_rewrap = lambda context, **_: self.refuse(context)

        def refuse(self, context):
            if context.get("tenant") == "1":
                raise deny()

    notes.key.rotate()
    attach_keyrings(notes.metadata, default=Keyring(Refusing(notes.key)))

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.secret])

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (20, 10)
    [note] = report.notes
    assert "'tenant': '1'" in note
    assert "is refused" in note


def test_what_cannot_be_asked_beforehand_is_noted(notes: Notes):
    """A third party's service need not know DryRun; the report must not hide it."""

    class Bare:
        def __init__(self, kms):
            self.resolve, self.rewrap = kms.resolve, kms.rewrap
            self.generate_data_key, self.unwrap = kms.generate_data_key, kms.unwrap

    new = LocalKms.create(notes.key._path.with_name("new.json"), rewraps_from=[notes.key])
    attach_keyrings(notes.metadata, default=Keyring(Bare(new), unwrap_only=[notes.key]))

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.ok
    assert "cannot be asked" in report.notes[0]


def test_a_count_that_fails_is_done_without(notes: Notes):
    """Only the progress needs it, and a statement timeout may not allow it."""
    notes.key.rotate()
    refused = []

    @event.listens_for(notes.engine, "before_cursor_execute")
    def time_out(conn, cursor, statement, *_):
        if "count(*)" in statement:
            refused.append(statement)
            raise OperationalError(statement, None, Exception("statement timeout"))

    totals = []
    report = rewrap(notes.engine, notes.metadata, on_progress=lambda p: totals.append(p.total))

    assert report.ok
    assert len(refused) == 2
    assert set(totals) == {None}


def test_calls_and_rows_keep_to_their_rates(notes: Notes):
    """A job in the background must leave the quota and the database to the application."""
    notes.key.rotate()

    by_kms = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.secret], kms_per_second=10)
    by_rows = verify(notes.engine, notes.metadata, batch_size=5, rows_per_second=100, workers=2)

    assert by_kms.counts.kms_calls == 3
    assert by_kms.seconds >= 0.3
    assert by_rows.counts.rows == 60
    assert by_rows.seconds >= 0.5


def test_a_job_that_waits_can_be_stopped(notes: Notes):
    """Ctrl-C must not have to wait for an outage to end."""
    notes.key.rotate()
    stop = threading.Event()

    def meanwhile(_):
        stop.set()
        raise throttle()

    interfered(notes, meanwhile)
    report = rewrap(notes.engine, notes.metadata, should_stop=stop.is_set)

    assert report.stopped == "it was asked to stop"
    assert report.seconds < 5


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("ThrottlingException", 400, "not available"),
        ("AccessDeniedException", 400, "refused 27 rows"),
        ("DisabledException", 400, "refused 27 rows"),
        ("InternalFailure", 500, "not available"),
        ("ReadTimeoutError", None, "not available"),
    ],
)
def test_real_answers_of_aws_stop_the_job(notes: Notes, code, status, words):
    """Through boto3 and HTTP, as in production; the material of the key is not told."""
    with running_stub() as stub:
        # In the Region of the local key: ReEncrypt works within one.
        arn = "arn:aws:kms:local:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        aws = AwsKms(
            arn, session=session(), endpoint_url=stub.url, max_attempts=1, read_timeout_seconds=0.2
        )
        stub.answer.body = {"KeyMetadata": {"KeyId": arn, "Arn": arn, "KeyState": "Enabled"}}

        class Answering(Interfering):
            def rewrap(self, *args, **more):
                late = Answer(delay_seconds=0.5)
                stub.answer = late if status is None else error(code, status)
                return aws.rewrap(*args, **more)

        kms = Answering(notes.key, None)
        kms.resolve, kms.describe = aws.resolve, aws.describe
        kms.would_rewrap = lambda *_, **__: None
        attach_keyrings(notes.metadata, default=Keyring(kms, unwrap_only=[notes.key]))
        report = rewrap(
            notes.engine,
            notes.metadata,
            columns=[notes.table.c.text],
            give_up_after=5,
            kms_patience_seconds=0,
        )

    assert words in str(report.stopped)
    assert code in str(report.stopped)
