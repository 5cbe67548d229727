"""Values that are nearly as long as a server takes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, Table, event, insert, select, text

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.rewrap import rewrap
from tests.conftest import on
from tests.rewrap.test_awkward_tables import MORE, Longer


def lax(engine: Engine) -> None:
    """Let a server warn where it would refuse."""

    def without_strict_mode(connection: Any, _record: Any) -> None:
        connection.query("SET SESSION sql_mode = ''")

    event.listen(engine, "connect", without_strict_mode)
    engine.dispose()


@on("mariadb")
@pytest.mark.parametrize("rows", [1, 6], ids=["one by one", "at once"])
def test_what_the_server_would_make_null_of_stays_as_it_is(
    engine, metadata, local_kms, tmp_path, rows
):
    """Without strict mode CONCAT gives NULL, and a warning, for more than max_allowed_packet."""
    table = Table(
        "kmsenv_rewrap_full",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("text", Encrypted(String, bind="column")),
    )
    attach_keyrings(metadata, default=Keyring(local_kms))
    metadata.drop_all(engine)
    metadata.create_all(engine)
    lax(engine)
    sizes = text(f"SELECT id, LENGTH(text) AS size FROM {table.name}")
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": n, "text": "a"} for n in range(rows)])
        room = connection.scalar(text("SELECT @@max_allowed_packet")) - len(MORE) // 2
        # Header and nonce stay; nothing behind them is looked at.
        longer = text(f"UPDATE {table.name} SET text = CONCAT(text, REPEAT('x', :more)) WHERE id=0")
        size = connection.scalar(text(f"SELECT LENGTH(text) FROM {table.name} WHERE id = 0"))
        connection.execute(longer, {"more": room - size})
        before = dict(connection.execute(sizes).all())
    new = Longer(LocalKms.create(tmp_path / "new.json", rewraps_from=[local_kms]))
    attach_keyrings(metadata, default=Keyring(new, unwrap_only=[local_kms]))

    report = rewrap(engine, metadata)

    with engine.connect() as connection:
        after = dict(connection.execute(sizes).all())
        query = select(table.c.text).where(table.c.id > 0)
        assert connection.scalars(query).all() == ["a"] * (rows - 1)
    assert before[0] == after[0] == room
    assert report.complete
    assert (report.counts.rewritten, report.counts.failed) == (rows - 1, 1)
    [failure] = report.columns[0].failures
    assert (failure.row, failure.error) == (("0",), "UnreachedRowError")
    assert "max_allowed_packet" in failure.message
