"""Somebody's own ``=``, ``<`` and ``>`` come first in PostgreSQL's search_path: no row is left out.

A page that looks empty ends a job with ok, and the old key is disabled.
"""

from __future__ import annotations

import datetime
import enum
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    create_engine,
    insert,
    select,
    text,
)

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.columns.own_operators import one_of
from sqlalchemy_kmsenv.rewrap import TableCheckpoint, reencrypt, rewrap, survey, verify
from tests.conftest import on

ROWS = 24
PATH = "-c search_path=hostile,pg_catalog,public"
# All of them say no: no row is behind another, and none is the one that is meant.
OVERRIDE = """
DO $do$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT oprname AS name, format_type(oprleft, NULL) AS a, format_type(oprright, NULL) AS b,
           format('hostile.f%s', oid) AS call
      FROM pg_operator
     WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY ('{=,<>,>=,<=,<,>}')
       AND format_type(oprleft, NULL) !~ '^(any|-|record)'
       AND format_type(oprright, NULL) !~ '^(any|record)'
  LOOP
    EXECUTE format(
      'CREATE FUNCTION %s(%s, %s) RETURNS boolean LANGUAGE sql AS ''SELECT false''',
      one.call, one.a, one.b
    );
    EXECUTE format(
      'CREATE OPERATOR hostile.%s (LEFTARG=%s, RIGHTARG=%s, FUNCTION=%s)',
      one.name, one.a, one.b, one.call
    );
  END LOOP;
  CREATE FUNCTION hostile.row_number() RETURNS bigint LANGUAGE internal WINDOW
    AS 'window_rank';
END $do$
"""


class Kind(enum.Enum):
    """A key of the database's own type."""

    A = "a"
    B = "b"


def table_of(name: str, metadata: MetaData) -> tuple[Table, list[dict[str, Any]]]:
    """A table for each kind of key, and its rows."""
    numbers = range(ROWS)
    kinds: dict[str, tuple[list[Column[Any]], list[tuple[Any, ...]]]] = {
        "one": ([Column("a", Integer)], [(n,) for n in numbers]),
        "text": ([Column("a", String(9))], [(f"k{n:02}",) for n in numbers]),
        "uuid": ([Column("a", Uuid)], [(uuid.UUID(int=n << 96),) for n in numbers]),
        "digits": (
            [Column("a", Uuid(native_uuid=False))],
            [(uuid.UUID(int=n << 96),) for n in numbers],
        ),
        "bytes": ([Column("a", LargeBinary)], [(bytes([n]),) for n in numbers]),
        "two": (
            [Column("a", Enum(Kind, name="hostile_kind")), Column("b", Numeric(9, 2))],
            [(kind, n) for kind in Kind for n in range(ROWS // 2)],
        ),
        "time": (
            [Column("a", DateTime(timezone=True)), Column("b", Integer)],
            [(datetime.datetime(2026, 1, n % 3 + 1, tzinfo=datetime.UTC), n) for n in numbers],
        ),
    }
    keys, values = kinds[name]
    for key in keys:
        key.primary_key = True
    identity: Any = {"bind": "column"} if name == "two" else {}
    table = Table(
        "kmsenv_pages",
        metadata,
        *keys,
        Column("v", Encrypted(String, **identity)),
    )
    names = [key.name for key in keys]
    return table, [{**dict(zip(names, each, strict=True)), "v": "x"} for each in values]


@pytest.fixture
def misled(engine, checkpoint_table):
    """An engine whose connections find the hostile schema first."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS hostile CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA hostile")
        connection.exec_driver_sql(OVERRIDE.replace("%", "%%"))
    other = create_engine(engine.url, connect_args={"options": PATH})
    yield other
    other.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA hostile CASCADE")


@on("postgresql")
@pytest.mark.parametrize("kind", ["one", "text", "uuid", "digits", "bytes", "two", "time"])
def test_no_hostile_operator_leaves_a_row_out(kind, engine, metadata, tmp_path, misled):
    """Pages, parts, locks, guards, renewals and checkpoints go by PostgreSQL's own."""
    table, rows = table_of(kind, metadata)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    key = LocalKms.create(tmp_path / "k.json")
    attach_keyrings(metadata, default=Keyring(key))
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    options: dict[str, Any] = {"batch_size": 5}

    for partitions in (1, 3):
        assert verify(misled, metadata, **options, partitions=partitions).counts.opened == ROWS
    (column,) = survey(misled, metadata, **options).columns
    assert column.envelopes == ROWS
    key.rotate()
    moved = rewrap(misled, metadata, **options, checkpoint=TableCheckpoint())
    assert (moved.ok, moved.counts.rewritten) == (True, ROWS)
    proved = rewrap(misled, metadata, **options, partitions=2, verify_material=True)
    assert (proved.ok, proved.counts.current) == (True, ROWS)
    anew = reencrypt(misled, metadata, **options, checkpoint=TableCheckpoint())
    assert (anew.ok, anew.counts.rewritten) == (True, ROWS)
    assert survey(engine, metadata).ok


@on("postgresql")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
@pytest.mark.parametrize("kind", ["one", "text", "uuid", "digits", "bytes"])
def test_rows_are_found_by_an_index(kind, driver, engine, metadata):
    """A list of keys is one, whether or not the driver says of which type they are."""
    table, rows = table_of(kind, metadata)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    attach_keyrings(metadata, default=None)
    with engine.begin() as connection:
        for row in rows:
            connection.execute(insert(table), {**row, "v": None})
    given = [row["a"] for row in rows[3:7]]
    other = create_engine(engine.url.set(drivername=f"postgresql+{driver}"))
    with other.connect() as connection:
        query = select(table.c.a).where(one_of(table.c.a, "keys", connection.dialect, given))
        assert sorted(connection.scalars(query)) == given
        connection.execute(text("SET enable_seqscan = off"))
        sql = query.compile(connection, compile_kwargs={"literal_binds": True})
        if kind != "bytes":
            explained = f"EXPLAIN {sql}".replace(":", "\\:").replace("%%", "%")
            assert "Index Cond" in "\n".join(connection.scalars(text(explained)))
    other.dispose()
