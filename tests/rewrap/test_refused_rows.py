"""Rows that the database refuses to write: constraints and triggers of the application."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text, update

from sqlalchemy_kmsenv import Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import TableCheckpoint, reencrypt, rewrap, survey
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes

TABLE = "kmsenv_rewrap_notes"
DDL = {
    "sqlite": (
        f"""CREATE TRIGGER kmsenv_closed BEFORE UPDATE ON {TABLE} WHEN OLD.id IN (5, 11)
        BEGIN SELECT RAISE(ABORT, 'the year is closed'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION kmsenv_closed() RETURNS trigger AS $$ BEGIN
        IF OLD.id IN (5, 11) THEN RAISE EXCEPTION 'the year is closed'; END IF;
        RETURN NEW; END $$ LANGUAGE plpgsql""",
        f"""CREATE TRIGGER kmsenv_closed BEFORE UPDATE ON {TABLE}
        FOR EACH ROW EXECUTE FUNCTION kmsenv_closed()""",
    ),
    "mysql": (
        f"""CREATE TRIGGER kmsenv_closed BEFORE UPDATE ON {TABLE} FOR EACH ROW
        IF OLD.id IN (5, 11) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the year is closed'; END IF""",
    ),
}
_ON = {"postgresql": f" ON {TABLE}", "mysql": "", "mariadb": ""}
DDL["mariadb"] = DDL["mysql"]


@pytest.fixture
def closed(notes: Notes) -> Iterator[Notes]:
    """Thirty rows, two of which a trigger keeps as they are."""
    execute(notes, *DDL[notes.engine.dialect.name])
    yield notes
    notes.metadata.drop_all(notes.engine)
    if notes.engine.dialect.name == "postgresql":
        execute(notes, "DROP FUNCTION kmsenv_closed")


def execute(notes: Notes, *statements: str) -> None:
    """Some DDL."""
    with notes.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.mark.usefixtures("checkpoint_table")
@pytest.mark.parametrize("job", [rewrap, reencrypt])
def test_a_trigger_that_raises_fails_its_rows_alone(closed: Notes, job):
    """One row of a closed year must not keep millions under the former key."""
    closed.key.rotate()
    before = closed.stored()

    report = job(
        closed.engine,
        closed.metadata,
        columns=[closed.table.c.text],
        batch_size=8,
        checkpoint=TableCheckpoint(),
    )

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed, report.counts.null) == (25, 2, 3)
    failures = report.columns[0].failures
    assert [failure.row for failure in failures] == [("5",), ("11",)]
    assert all("the year is closed" in failure.message for failure in failures)
    kept = {key for key, raw in closed.stored().items() if raw and raw == before[key]}
    assert kept == {5, 11}


@on("postgresql")
@pytest.mark.parametrize("deferred", [False, True])
def test_the_row_that_postgresql_tells_is_not_in_the_report(notes: Notes, deferred):
    """Its DETAIL holds the whole row; a deferred constraint speaks at COMMIT only."""
    if deferred:
        execute(
            notes,
            *DDL["postgresql"][:1],
            f"CREATE CONSTRAINT TRIGGER kmsenv_late AFTER UPDATE ON {TABLE} DEFERRABLE"
            " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION kmsenv_closed()",
        )
    else:
        execute(
            notes,
            f"ALTER TABLE {TABLE} ADD CONSTRAINT kmsenv_old CHECK (id NOT IN (5, 11)) NOT VALID",
        )
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (25, 2)
    for failure in report.columns[0].failures:
        assert "Failing row" not in failure.message
        assert notes.stored()[int(failure.row[0])].hex() not in failure.message
    [found, _] = survey(notes.engine, notes.metadata).columns
    assert found.not_at_target == 2
    notes.metadata.drop_all(notes.engine)
    execute(notes, "DROP FUNCTION IF EXISTS kmsenv_closed")


@on("postgresql")
def test_words_of_a_trigger_that_hold_the_cell_are_left_out(notes: Notes):
    """A trigger may raise with the row in its message."""
    execute(
        notes,
        DDL["postgresql"][0].replace("'the year is closed'", "'closed: %', NEW.text"),
        *DDL["postgresql"][1:],
    )
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.counts.failed == 2
    for failure in report.columns[0].failures:
        assert failure.error == "RaiseException"
        assert failure.message == "the database's words may hold stored bytes, and are left out"
    notes.metadata.drop_all(notes.engine)
    execute(notes, "DROP FUNCTION kmsenv_closed")


@on("postgresql", "mariadb")
def test_a_lock_that_a_trigger_does_not_get_concerns_its_row_alone(closed: Notes):
    """The job comes back to such rows, and names those that it never got."""
    execute(closed, f"DROP TRIGGER kmsenv_closed{_ON[closed.engine.dialect.name]}")
    words = {
        "EXCEPTION 'the year is closed'": "EXCEPTION 'busy' USING ERRCODE = '55P03'",
        "'45000' SET MESSAGE_TEXT = 'the year is closed'": "'HY000' SET MYSQL_ERRNO = 1205",
    }
    for statement in DDL[closed.engine.dialect.name]:
        changed = statement
        for former, new in words.items():
            changed = changed.replace(former, new)
        execute(closed, changed)
    closed.key.rotate()

    report = rewrap(closed.engine, closed.metadata, columns=[closed.table.c.text])

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (25, 2)
    failures = report.columns[0].failures
    assert [(f.row, f.error) for f in failures] == [
        (("5",), "RowHeldError"),
        (("11",), "RowHeldError"),
    ]


def test_a_row_that_is_refused_at_the_second_look_fails_alone(notes: Notes, tmp_path):
    """Somebody wrote it under the former key meanwhile, and closed it."""
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[notes.key])
    old, wrote = Keyring(notes.kms), list[int]()

    def write_and_close(_: object) -> None:
        if not wrote:
            wrote.append(5)
            attach_keyrings(notes.metadata, default=old)
            with notes.engine.begin() as connection:
                same = notes.table.c.id == 5
                connection.execute(update(notes.table).where(same).values(text="late"))
            attach_keyrings(notes.metadata, default=keyring)
            statements = DDL[notes.engine.dialect.name]
            execute(notes, *(each.replace("(5, 11)", "(5)") for each in statements))

    keyring = Keyring(Interfering(new, write_and_close), unwrap_only=[notes.key])
    attach_keyrings(notes.metadata, default=keyring)

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert report.complete
    assert (report.counts.rewritten, report.counts.failed, report.counts.changed) == (26, 1, 0)
    [failure] = report.columns[0].failures
    assert failure.row == ("5",)
    assert "the year is closed" in failure.message
    assert notes.texts()[5] == "late"
    notes.metadata.drop_all(notes.engine)
    if notes.engine.dialect.name == "postgresql":
        execute(notes, "DROP FUNCTION kmsenv_closed")


LEFT_OUT = "the database's words may hold stored bytes, and are left out"


@on("sqlite")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("closed\nrow: text 5", "closed"),
        ("closed\nrow: \x1b[2J \\x00", "closed"),
        ("closed\x1b[2J\nrow", LEFT_OUT),
        ("closed: " + "a" * 31, "closed: " + "a" * 31),
        ("closed: " + "a" * 32, LEFT_OUT),
        ("closed. " * 40, "closed. " * 25),
    ],
    ids=["lines", "escapes behind", "escapes", "word", "long word", "long"],
)
def test_words_of_a_trigger_are_told_as_far_as_they_are_words(notes: Notes, words, told):
    """Whoever wrote it can have put the whole row into them."""
    statement = DDL["sqlite"][0].replace("the year is closed", words)
    with notes.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    notes.key.rotate()

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text])

    assert [failure.message for failure in report.columns[0].failures] == [told] * 2
