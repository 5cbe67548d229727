import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    delete,
    event,
    insert,
    select,
)
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings
from sqlalchemy_kmsenv.rewrap import rewrap, survey
from sqlalchemy_kmsenv.rewrap.keyed import key_from_json, key_to_json
from sqlalchemy_kmsenv.rewrap.partitions import cut
from sqlalchemy_kmsenv.rewrap.tables import RawTable
from tests.conftest import on
from tests.rewrap.conftest import Interfering, Notes

DAY = datetime.date(2001, 2, 3)
NOON = datetime.datetime(2001, 2, 3, 12)  # noqa: DTZ001  as the databases store it
BYTES = LargeBinary().with_variant(mysql.VARBINARY(20), "mysql", "mariadb")


class Kind(enum.Enum):
    """A key whose members are in another order than their names."""

    ZEBRA = "z"
    ANT = "a"
    bee = "b"
    Moth = "m"


class Named:
    """A value of an application's own, which no checkpoint knows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Guid(TypeDecorator[Named]):
    """A type that takes and returns nothing but its own values."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """Its text."""
        return None if value is None else value.text

    def process_result_value(self, value: Any, dialect: Any) -> Named | None:
        """A value with that text."""
        return None if value is None else Named(value)


KEYS: dict[str, tuple[list[Any], list[tuple[Any, ...]]]] = {
    "integer": ([Integer], [(n - 7,) for n in range(20)]),
    "big integer": ([BigInteger], [((1 << 40) + n * n,) for n in range(20)]),
    "string": ([String(20)], [(f"{c}{n}",) for n in range(5) for c in ("a", "B", "ö", "Z")]),
    "uuid": ([Uuid], [(uuid.uuid5(uuid.NAMESPACE_OID, f"{n}"),) for n in range(20)]),
    "bytes": ([BYTES], [(bytes([n * 12 % 256, 0, n]),) for n in range(20)]),
    "date": ([Date], [(DAY + datetime.timedelta(days=n * 40),) for n in range(20)]),
    "numeric": ([Numeric(10, 2)], [(Decimal(n) / 4,) for n in range(20)]),
    "date and time": ([DateTime], [(NOON + datetime.timedelta(hours=n),) for n in range(20)]),
    "enum": ([Enum(Kind)], [(kind,) for kind in Kind]),
    "own type": ([Guid()], [(Named(f"{n:04d}"),) for n in range(20)]),
    "own type and enum": (
        [Guid(), Enum(Kind, native_enum=False)],
        [(Named(f"{n // 4}"), [*Kind][n % 4]) for n in range(20)],
    ),
    "integer and string": (
        [Integer, String(5)],
        [(n // 4, t) for n, t in zip(range(20), "abcd" * 5, strict=True)],
    ),
    "three": ([Integer, Integer, Integer], [(n // 9, n // 3 % 3, n % 3) for n in range(20)]),
}
# Values cannot be bound to keys of these types, but tables that have them can be paged.
UNBOUND = {"numeric", "enum", "own type", "own type and enum"}


def keyed_table(engine, metadata, keyring, kind):
    """A table with a key of some kind, and its rows."""
    types, keys = KEYS[kind]
    columns = [
        Column(f"k{i}", each, primary_key=True, autoincrement=False) for i, each in enumerate(types)
    ]
    bind: Any = "column" if kind in UNBOUND else "row"
    table = Table(
        "kmsenv_rewrap_keyed",
        metadata,
        *columns,
        Column("text", Encrypted(String, bind=bind)),
    )
    attach_keyrings(metadata, default=keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    names = [column.name for column in columns]
    given = [
        {**dict(zip(names, key, strict=True)), "text": f"row {n}"} for n, key in enumerate(keys)
    ]
    with engine.begin() as connection:
        connection.execute(insert(table), given)
    return table, keys


@pytest.mark.parametrize("kind", KEYS)
def test_every_row_is_seen_once_whatever_its_key(engine, keyring, local_kms, kind, tmp_path):
    """Others forgot composite keys; OFFSET skips and repeats rows under a writer."""
    if kind == "enum" and engine.dialect.name == "mysql":
        pytest.skip("refused: MariaDB orders ENUM otherwise than it compares it")
    metadata = MetaData()
    table, keys = keyed_table(engine, metadata, keyring, kind)
    local_kms.rotate()

    report = rewrap(
        engine, metadata, batch_size=3, workers=3, checkpoint=tmp_path / "checkpoint.json"
    )

    assert (report.counts.rows, report.counts.rewritten) == (len(keys), len(keys))
    assert survey(engine, metadata).ok
    local_kms.rotate()
    # All rows in one page, and in one UPDATE where the key has one part.
    assert rewrap(engine, metadata).counts.rewritten == len(keys)
    with engine.connect() as connection:
        found = {tuple(row[:-1]): row[-1] for row in connection.execute(select(table))}
    metadata.drop_all(engine)
    assert found == {key: f"row {n}" for n, key in enumerate(keys)}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_survives_a_checkpoint(kind):
    """What comes back from JSON must name the same place in the index."""
    if "own type" in kind or kind == "enum":
        pytest.skip("jobs read these as the database has them")
    for key in KEYS[kind][1]:
        assert key_from_json(key_to_json(key)) == key


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("kind", ["integer", "string", "integer and string", "three"])
def test_partitions_cover_the_key_range_without_overlap(engine, metadata, keyring, kind, parts):
    """A row between two ranges would be lost, one in both be counted twice."""
    table, keys = keyed_table(engine, metadata, keyring, kind)
    raw = RawTable(engine, table.c.text, [], 512)

    with engine.connect() as connection:
        partitions = cut(connection, raw, parts)
        pages = [raw.page(connection, p.after, p.upto, None) for p in partitions]

    assert [len(page) for page in pages] == [20 // parts] * parts
    seen = [tuple(row[: len(raw.key)]) for page in pages for row in page]
    assert len(seen) == len(keys)
    assert set(seen) == set(keys)


@pytest.mark.parametrize("kind", ["integer", "string", "integer and string"])
def test_an_empty_table_is_done_at_once(engine, metadata, keyring, kind):
    """There is nothing to cut, and nothing to fail on."""
    table, _ = keyed_table(engine, metadata, keyring, kind)
    with engine.begin() as connection:
        connection.execute(delete(table))

    report = rewrap(engine, metadata, workers=4)

    assert report.ok
    assert report.counts.rows == 0


def test_rows_that_come_and_go_make_no_other_row_skipped_or_repeated(notes: Notes):
    """With OFFSET, a row deleted behind the job moves another one out of its sight."""
    notes.key.rotate()
    came: list[int] = []

    def insert_and_delete(_):
        if not came:
            came.append(1)
            with notes.engine.begin() as connection:
                connection.execute(delete(notes.table).where(notes.table.c.id.in_([0, 1, 15])))
            attach_keyrings(notes.metadata, default=Keyring(notes.key))
            notes.fill(5, start=-10)
            notes.fill(5, start=100)
            attach_keyrings(notes.metadata, default=keyring)

    keyring = Keyring(Interfering(notes.key, insert_and_delete))
    attach_keyrings(notes.metadata, default=keyring)

    report = rewrap(notes.engine, notes.metadata, columns=[notes.table.c.text], batch_size=4)

    # 30 that were there, less the deleted 15, and the five behind the end: 0 and 1 were read.
    assert report.counts.rows == 34
    assert report.counts.changed == 2
    assert survey(notes.engine, notes.metadata, columns=[notes.table.c.text]).ok


@on("postgresql", "mariadb")
@pytest.mark.parametrize("kind", ["integer", "integer and string"])
def test_a_page_is_one_look_into_the_index(engine, metadata, keyring, kind):
    """A page in the middle of a billion rows must cost what the first one does."""
    table, _ = keyed_table(engine, metadata, keyring, kind)
    raw = RawTable(engine, table.c.text, [], 512)
    with engine.begin() as connection:
        names = [c.name for c in raw.key]
        more = [
            {**dict(zip(names, (n, "x")[: len(names)], strict=True)), "text": None}
            for n in range(100, 3100)
        ]
        connection.execute(insert(table), more)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        quoted = engine.dialect.identifier_preparer.quote(table.name)
        analyse = "ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE TABLE"
        connection.exec_driver_sql(f"{analyse} {quoted}")
    statements: list[tuple[str, object]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _, __, sql, parameters, *___: statements.append((sql, parameters)),
    )

    with engine.connect() as connection:
        raw.page(connection, (2000, "x")[: len(raw.key)], None, 10)
        sql, parameters = statements[-1]
        plan = str(connection.exec_driver_sql(f"EXPLAIN {sql}", parameters).all())

    if engine.dialect.name == "postgresql":
        assert "Index Scan" in plan
        assert "Sort" not in plan
        assert "Index Cond" in plan
    else:
        assert "'range', 'PRIMARY'" in plan
        assert "filesort" not in plan
