"""A view, and an archive table, of the rows of another table in one MetaData."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    WrongCellError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.rewrap.targets import column_names
from tests.columns.conftest import copy_stored


def orders_of(metadata: MetaData) -> Table:
    """The table whose rows the others hold."""
    return Table(
        "kmsenv_orders", metadata, Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", String(9), nullable=False), Column("note", Encrypted(String)),
        Column("secret", Encrypted(String, scope=["tenant"])),
    )  # fmt: skip


def like_orders(name, metadata, *, info=None, **options) -> Table:
    """Another one that says so."""
    return Table(
        name, metadata, Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", String(9), nullable=False),
        Column("note", Encrypted(String, name="kmsenv_orders.note", **options)),
        Column(
            "secret",
            Encrypted(String, name="kmsenv_orders.secret", scope=["tenant"], **options),
        ),
        info=info or {},
    )  # fmt: skip


@pytest.mark.parametrize("first", ["table", "view"])
def test_a_view_and_an_archive_are_read_under_the_name_of_their_table(
    first, engine, metadata, keyring
):
    """Whichever is declared first; the cells are bound to the keys, which are the same."""
    if first == "table":
        orders = orders_of(metadata)
    view = like_orders("kmsenv_open_orders", metadata, info={"is_view": True})
    archive = like_orders("kmsenv_archived_orders", metadata, same_rows=True)
    if first == "view":
        orders = orders_of(metadata)
    attach_keyrings(metadata, keyring)
    with engine.begin() as connection:
        connection.execute(text("DROP VIEW IF EXISTS kmsenv_open_orders"))
    metadata.create_all(engine, tables=[orders, archive])
    try:
        with engine.begin() as connection:
            connection.execute(
                text("CREATE VIEW kmsenv_open_orders AS SELECT * FROM kmsenv_orders WHERE id < 3")
            )
            rows = [
                {"id": n, "tenant": f"t{n}", "note": f"n{n}", "secret": f"s{n}"} for n in (1, 2, 3)
            ]
            connection.execute(insert(orders), rows)
            connection.execute(
                text("INSERT INTO kmsenv_archived_orders SELECT * FROM kmsenv_orders")
            )
            for source, expected in ((view, 2), (archive, 3)):
                read = select(source.c.note, source.c.secret).order_by(source.c.id)
                found = connection.execute(read).all()
                assert found == [(f"n{n}", f"s{n}") for n in (1, 2, 3)][:expected]
            connection.execute(
                archive.update().where(archive.c.id == 1).values(note="later", secret="too")
            )
            assert connection.scalar(select(archive.c.note).where(archive.c.id == 1)) == "later"
            copy_stored(connection, archive, "note", source=1, target=2)
            with pytest.raises(WrongCellError):
                connection.execute(select(archive.c.note)).all()
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP VIEW IF EXISTS kmsenv_open_orders"))
        metadata.remove(view)


def test_jobs_leave_out_views_and_work_on_archives(metadata):
    """What a view shows is stored once, and cannot always be written."""
    orders_of(metadata)
    like_orders("v", metadata, info={"is_view": True})
    like_orders("archive", metadata, same_rows=True)
    assert sorted(column_names(metadata, None)) == [
        "archive.note", "archive.secret", "kmsenv_orders.note", "kmsenv_orders.secret",
    ]  # fmt: skip


def test_whoever_does_not_say_so_is_refused_as_before():
    """Their values could be swapped."""
    metadata = MetaData()
    orders_of(metadata)
    with pytest.raises(ConfigurationError, match="shows the same rows"):
        like_orders("other", metadata)
    with pytest.raises(ConfigurationError, match="goes with name"):
        Encrypted(String, same_rows=True)
    assert "same_rows=True" in repr(Encrypted(String, name="a.b", same_rows=True))
