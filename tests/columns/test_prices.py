"""What the README tells of prices before anybody begins."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, insert, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlalchemy_kmsenv import Encrypted, attach_keyrings
from sqlalchemy_kmsenv.envelope import (
    NONCE_AND_TAG_BYTES,
    InlineReference,
    serialize_header,
)

AWS_WRAPPED_BYTES = 184


def test_envelope_takes_267_bytes_around_its_payload_under_aws():
    """Tables of short values grow by it."""
    reference = InlineReference(bytes(8), bytes(8), bytes(32), bytes(AWS_WRAPPED_BYTES))

    assert len(serialize_header(reference, 1)) + NONCE_AND_TAG_BYTES == 267


def test_service_that_only_writes_needs_no_decrypt(engine, metadata, keyring, kms):
    """Its columns are deferred: what it loads and changes is never opened."""
    shared = metadata

    class Base(DeclarativeBase):
        metadata = shared

    class Order(Base):
        __tablename__ = "kmsenv_orders"
        id = mapped_column(Integer, primary_key=True)
        state = mapped_column(String(10))
        card = mapped_column(Encrypted(String), deferred=True)

    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with kms.expect(generate_data_key=1):
        with Session(engine) as session:
            session.add(Order(state="new", card="4111"))
            session.commit()
        with Session(engine) as session:
            order = session.scalars(select(Order)).one()
            order.state, order.card = "paid", "4222"
            session.commit()

    with Session(engine) as session:
        assert session.scalars(select(Order.card)).all() == ["4222"]


def test_rows_written_under_many_data_keys_cost_as_many_decrypts(engine, metadata, keyring, kms):
    """A page of rows written over months, while the cache is cold."""
    table = Table(
        "kmsenv_old_rows",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("v", Encrypted(String)),
    )
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    for day in range(5):
        with engine.begin() as connection:
            connection.execute(insert(table), [{"id": day, "v": f"day {day}"}])
        keyring.forget()

    with engine.connect() as connection, kms.expect(unwrap=5):
        assert len(connection.scalars(select(table.c.v)).all()) == 5
    with engine.connect() as connection, kms.expect():
        connection.scalars(select(table.c.v)).all()
