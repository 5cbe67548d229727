"""Rows that could not be sealed are of one transaction: the next one knows nothing of them."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
from sqlalchemy import CHAR, Column, Integer, String, Table, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import (
    Encrypted,
    Keyring,
    KeyServiceUnavailableError,
    UnboundValueError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.kms import CountingKms
from tests.conftest import on


class AbsentKms(CountingKms):
    """Answers once it is there."""

    there = False

    def generate_data_key(self, encryption_context):
        """Nothing, or what the other one gives."""
        if not self.there:
            raise KeyServiceUnavailableError("away")
        return super().generate_data_key(encryption_context)


@pytest.fixture
def models(engine, local_kms):
    """Two classes whose keys the server makes, and their KMS."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "kmsenv_left_notes"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(Encrypted(String))
        plain = mapped_column(String(20))

    class Reply(Base):
        __tablename__ = "kmsenv_left_replies"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(Encrypted(String))

    kms = AbsentKms(local_kms)
    attach_keyrings(Base.metadata, Keyring(kms))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield SimpleNamespace(Note=Note, Reply=Reply, kms=kms)
    Base.metadata.drop_all(engine)


ENDS = ["rollback", "close", "dropped", "savepoint", "invalidated"]


@on("sqlite", "mariadb")
@pytest.mark.parametrize("end", ENDS)
def test_the_next_transaction_commits(end, engine, models):
    """However the one ended in which the KMS was away."""
    connection = engine.connect()
    try:
        transaction = connection.begin_nested() if end == "savepoint" else connection.begin()
        with pytest.raises(KeyServiceUnavailableError):
            connection.execute(insert(models.Note), {"text": "lost"})
        if end in ("rollback", "savepoint"):
            transaction.rollback()
        elif end == "invalidated":
            connection.invalidate()
            transaction.rollback()
        elif end == "close":
            connection.close()
        if end in ("dropped", "close"):
            del transaction, connection
            gc.collect()
            connection = engine.connect()
        connection.execute(insert(models.Note), {"plain": "p"})
        connection.commit()
        models.kms.there = True
        connection.execute(insert(models.Note), {"text": "kept"})
        connection.commit()
        query = select(models.Note.text).order_by(models.Note.id)
        assert connection.scalars(query).all() == [None, "kept"]
    finally:
        # The tables cannot be dropped while a transaction has them.
        connection.close()


@on("sqlite", "mariadb")
def test_a_transaction_with_such_rows_is_not_committed(engine, models):
    """And what it did beside them is undone."""
    with engine.connect() as connection:
        connection.execute(insert(models.Note), {"plain": "p"})
        with pytest.raises(KeyServiceUnavailableError):
            connection.execute(insert(models.Note), {"text": "lost"})
        with pytest.raises(UnboundValueError, match="kmsenv_left_notes were inserted in this"):
            connection.commit()
        connection.rollback()
        assert connection.scalars(select(models.Note.id)).all() == []


def test_an_update_comes_behind_the_inserts_of_its_own_table(engine, models):
    """While rows of another one wait as well."""
    models.kms.there = True
    with Session(engine) as session:
        notes = [models.Note(text=f"n{n}") for n in range(2)]
        session.add_all([*notes, *(models.Reply(text=f"r{n}") for n in range(2))])
        session.flush()
        notes[0].text = "changed"
        session.add(models.Reply(text="r2"))
        session.flush()
        session.execute(update(models.Note).where(models.Note.id == notes[1].id).values(text="x"))
        session.commit()
        query = select(models.Note.text).order_by(models.Note.id)
        assert session.scalars(query).all() == ["changed", "x"]
        replies = select(models.Reply.text).order_by(models.Reply.id)
        assert session.scalars(replies).all() == ["r0", "r1", "r2"]


def test_a_parameter_set_may_have_more_plain_columns_than_the_first(engine, models):
    """SQLAlchemy goes by the first one; what is not sealed does no harm."""
    models.kms.there = True
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b", "plain": "p", "other": 1}]
    with engine.begin() as connection:
        connection.execute(insert(models.Note.__table__), rows)
        query = select(models.Note.text, models.Note.plain).order_by(models.Note.id)
        assert connection.execute(query).all() == [("a", None), ("b", None)]


def test_a_char_keeps_the_blanks_it_begins_with(engine, metadata, keyring):
    """The database fills it up behind, and that alone is taken off."""
    table = Table(
        "kmsenv_left_char",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tenant", CHAR(6), nullable=False, server_default="  t"),
        Column("text", Encrypted(String, scope=["tenant"])),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"text": "old"})
        assert connection.scalars(select(table.c.text)).all() == ["old"]
        key = connection.scalar(select(table.c.id))
        connection.execute(update(table).where(table.c.id == key).values(text="new"))
        assert connection.scalars(select(table.c.text)).all() == ["new"]
