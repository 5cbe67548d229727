"""Reading and writing through the ORM."""

import pytest
from sqlalchemy import bindparam, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.exc import StaleDataError

from sqlalchemy_kmsenv import UnboundValueError, WrongCellError
from tests.columns.conftest import copy_stored, stored
from tests.conftest import on


def test_values_come_back_equal_and_the_database_holds_envelopes(session, models):
    """The main job: plaintext in the application, envelopes in the table."""
    Ping = models.Ping
    session.add(Ping(id=1, position={"lat": 52.5}, note="canary", secret=""))
    session.add(Ping(id=2, position=None, note="", secret=None))
    session.commit()
    first, second = session.scalars(select(Ping).order_by(Ping.id)).all()
    assert (first.position, first.note, first.secret) == ({"lat": 52.5}, "canary", "")
    assert (second.position, second.note, second.secret) == (None, "", None)
    raw = stored(session, models.table.c.note, models.table.c.id == 1)
    assert raw.startswith(b"\xe5\x01")
    assert b"canary" not in raw


def test_a_flush_a_bulk_update_and_a_core_update_by_key_all_bind(session, models):
    """The three UPDATE shapes that name a row."""
    Ping = models.Ping
    session.add_all([Ping(id=i, note=f"old {i}", secret=f"s{i}") for i in range(1, 5)])
    session.commit()
    session.get(Ping, 1).note = "flush"
    session.commit()
    session.execute(update(Ping), [{"id": 2, "note": "bulk"}])
    session.execute(update(Ping).where(Ping.id == 3).values(note="core"))
    table = models.table
    many = update(table).where(table.c.id == bindparam("row"))
    session.connection().execute(many, [{"row": 4, "note": "many"}])
    session.commit()
    notes = session.scalars(select(Ping.note).order_by(Ping.id)).all()
    assert notes == ["flush", "bulk", "core", "many"]


def test_value_copied_to_another_row_does_not_open(session, models):
    """Whoever may UPDATE the table must not be able to move a value."""
    Ping = models.Ping
    session.add_all([Ping(id=1, note="victim"), Ping(id=11, note="other")])
    session.commit()
    copy_stored(session.connection(), models.table, "note", source=1, target=11)
    session.commit()
    with pytest.raises(WrongCellError) as caught:
        session.scalars(select(Ping).where(Ping.id == 11)).all()
    assert caught.value.cell is not None
    assert caught.value.cell.column == "note"
    assert caught.value.cell.row == (b"i11",)


def test_value_moved_to_another_scope_does_not_open(session, models):
    """A row that is given to another device behind the library's back stays closed."""
    Ping = models.Ping
    session.add(Ping(id=1, device_id="d1", secret="s"))
    session.commit()
    session.execute(update(models.table).where(models.table.c.id == 1).values(plain="x"))
    session.connection().exec_driver_sql("UPDATE kmsenv_pings SET device_id = 'd2' WHERE id = 1")
    session.commit()
    with pytest.raises(WrongCellError):
        session.scalars(select(Ping.secret)).all()


def test_a_flush_takes_the_scope_from_the_object_without_a_query(session, models, engine):
    """The UPDATE does not name the device; the object knows it."""
    Ping = models.Ping
    session.add_all([Ping(id=i, device_id=f"d{i % 2}", secret="old") for i in range(1, 5)])
    session.commit()
    pings = session.scalars(select(Ping).order_by(Ping.id)).all()
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    for ping in pings:
        ping.secret = f"new {ping.id}"
    session.flush()
    assert not [sql for sql in statements if sql.startswith("SELECT")]
    session.commit()
    assert session.scalars(select(Ping.secret).order_by(Ping.id)).all() == [
        f"new {i}" for i in range(1, 5)
    ]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_stale_object_does_not_write_under_a_scope_that_the_row_has_left(session, models, rows):
    """The value would be sealed for the wrong device, and be lost."""
    Ping = models.Ping
    session.add_all([Ping(id=i, device_id="d1", secret="s") for i in (1, 2)])
    session.commit()
    pings = session.scalars(select(Ping).order_by(Ping.id)).all()
    session.connection().exec_driver_sql("UPDATE kmsenv_pings SET device_id = 'd2' WHERE id = 1")
    for ping in pings[:rows]:
        ping.secret = "written"
    with pytest.raises(StaleDataError, match="were matched"):
        session.flush()


def test_core_update_reads_the_scope_in_one_query_for_the_batch(session, models, engine):
    """An UPDATE by key leaves the device open; the database knows it."""
    Ping = models.Ping
    session.add_all([Ping(id=i, device_id=f"d{i % 3}", secret="old") for i in range(1, 21)])
    session.commit()
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    session.execute(update(Ping), [{"id": i, "secret": f"new {i}"} for i in range(1, 21)])
    assert len([sql for sql in statements if sql.startswith("SELECT")]) == 1
    session.commit()
    assert session.scalars(select(Ping.secret).order_by(Ping.id)).all() == [
        f"new {i}" for i in range(1, 21)
    ]


def test_core_update_of_an_absent_row_writes_nothing(session, models):
    """No row, no scope: nothing to seal for, and nothing to write."""
    Ping = models.Ping
    session.add(Ping(id=1, secret="s"))
    session.commit()
    session.execute(update(Ping).where(Ping.id == 2).values(secret="x"))
    session.connection().execute(
        update(models.table).where(models.table.c.id == bindparam("row")),
        [{"row": 1, "secret": "one"}, {"row": 2, "secret": "two"}],
    )
    session.commit()
    assert session.execute(select(Ping.id, Ping.secret)).all() == [(1, "one")]


def test_changing_key_or_scope_needs_every_encrypted_column(session, models):
    """A row must not be moved away from values that only open where they were."""
    Ping = models.Ping
    session.add(Ping(id=1, device_id="d1", note="n", position=1, secret="s"))
    session.commit()
    with pytest.raises(UnboundValueError, match="device_id"):
        session.execute(update(Ping).where(Ping.id == 1).values(device_id="d2"))
    with pytest.raises(UnboundValueError):
        session.execute(update(Ping).where(Ping.id == 1).values(id=2, note="n"))
    session.execute(
        update(Ping)
        .where(Ping.id == 1)
        .values(id=2, device_id="d2", note="n2", position=2, secret="s2")
    )
    session.commit()
    session.expunge_all()
    row = session.execute(select(Ping.id, Ping.note, Ping.position, Ping.secret)).one()
    assert row == (2, "n2", 2, "s2")


def test_a_read_through_alias_label_subquery_and_join_opens(session, models):
    """The row is found wherever the column stands in FROM."""
    Ping = models.Ping
    session.add_all([Ping(id=i, note=f"n{i}") for i in (1, 2)])
    session.commit()
    other = aliased(Ping)
    sub = select(Ping.id, Ping.note).subquery()
    query = (
        select(other.note.label("mine"), sub.c.note)
        .join(sub, sub.c.id != other.id)
        .order_by(other.id)
    )
    assert session.execute(query).all() == [("n1", "n2"), ("n2", "n1")]
    outer = select(other.note, Ping.note).outerjoin(Ping, Ping.id == other.id + 1)
    assert set(session.execute(outer).all()) == {("n1", "n2"), ("n2", None)}
    union = (
        select(Ping.id, Ping.note)
        .where(Ping.id == 1)
        .union_all(select(Ping.id, Ping.note).where(Ping.id == 2))
    )
    assert sorted(session.execute(union).all()) == [(1, "n1"), (2, "n2")]


def test_returning_opens(session, models):
    """INSERT ... RETURNING reads the row that it wrote."""
    if not session.get_bind().dialect.insert_returning:
        assert session.get_bind().dialect.name == "mysql"
        return
    Ping = models.Ping
    row = session.execute(insert(Ping).returning(Ping.id, Ping.note), [{"id": 1, "note": "n"}])
    assert row.all() == [(1, "n")]


@on("sqlite", "postgresql")
def test_returning_gives_none_for_null(session, models):
    """Of every statement; some releases of SQLite think otherwise of IS NOT NULL there."""
    table = models.table
    connection = session.connection()
    columns = (table.c.note, table.c.secret)
    rows = [{"id": 1, "note": None, "secret": None}, {"id": 2, "note": None, "secret": "s"}]
    returned = connection.execute(insert(table).returning(*columns), rows).all()
    assert sorted(returned, key=str) == [(None, "s"), (None, None)]
    plain = update(table).values(plain="x").returning(*columns)
    assert sorted(connection.execute(plain).all(), key=str) == [(None, "s"), (None, None)]
    erased = update(table).values(note=None, secret=None).returning(*columns)
    assert connection.execute(erased).all() == [(None, None)] * 2
    assert connection.execute(delete(table).returning(*columns)).all() == [(None, None)] * 2


def test_defaults_of_encrypted_columns_are_sealed(engine, keyring, metadata):
    """SQLAlchemy evaluates defaults after the hook; the hook does it first."""
    from sqlalchemy import Column, Integer, String, Table

    from sqlalchemy_kmsenv import Encrypted, attach_keyrings

    table = Table(
        "kmsenv_defaults",
        metadata,
        Column(
            "id",
            Integer,
            primary_key=True,
            default=lambda context: len(context.get_current_parameters()["plain"]),
        ),
        Column("plain", String(20)),
        Column("note", Encrypted(String), default="scalar", onupdate=lambda: "updated"),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"plain": "a"}, {"plain": "bb"}])
        connection.execute(update(table).where(table.c.id == 2).values(plain="c"))
        rows = connection.execute(select(table.c.id, table.c.note).order_by(table.c.id)).all()
    assert rows == [(1, "scalar"), (2, "updated")]


def test_nothing_stays_behind_after_a_failed_flush(session, models):
    """What a flush handed over must not serve a later statement."""
    Ping = models.Ping
    session.add_all([Ping(id=1, secret="a"), Ping(id=2, secret="b")])
    session.commit()
    session.get(Ping, 1).secret = "c"
    session.add(Ping(id=2, secret="dup"))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    assert not session.connection().info.get("sqlalchemy_kmsenv.handover")
    session.get(Ping, 1).secret = "c"
    session.commit()
    assert session.get(Ping, 1).secret == "c"


def test_a_session_of_1000_rows_makes_one_call_to_write_and_one_to_read(engine, models, kms):
    """The budget: KMS calls do not grow with rows."""
    Ping = models.Ping
    for count, first in ((1, 0), (1000, 1)):
        models.keyring = None
        with Session(engine) as session:
            rows = [Ping(id=first + i, note="n") for i in range(count)]
            with kms.expect(generate_data_key=0 if first else 1):
                session.add_all(rows)
                session.commit()
            with kms.expect(unwrap=0 if first else 1):
                assert len(session.scalars(select(Ping.note)).all()) == first + count
            with kms.expect():
                session.scalars(select(Ping.note)).all()


def test_1000_rows_cold_cost_one_call_each_way(engine, models, kms, keyring):
    """The same with cold caches, and one call a device where the device is the scope."""
    Ping = models.Ping
    with Session(engine) as session:
        with kms.expect(generate_data_key=1):
            session.execute(insert(Ping), [{"id": i, "note": "n"} for i in range(1000)])
        keyring.forget()
        with kms.expect(unwrap=1):
            session.scalars(select(Ping.note)).all()
        rows = [{"id": i, "device_id": f"d{i % 5}", "secret": "s"} for i in range(1000, 2000)]
        with kms.expect(generate_data_key=5):
            session.execute(insert(Ping), rows)
        keyring.forget()
        with kms.expect(unwrap=5):
            session.scalars(select(Ping.secret)).all()
        session.commit()
