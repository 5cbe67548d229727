"""Stored bytes without a statement: sealed, opened and explained by hand."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, Column, Enum, Integer, LargeBinary, String, Table, insert, select
from sqlalchemy import type_coerce as raw
from sqlalchemy.orm import DeclarativeBase, mapped_column

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    EnvelopeError,
    Finding,
    InvalidValueError,
    Keyring,
    LocalKms,
    UnboundValueError,
    WrongCellError,
    attach_keyrings,
    explain,
    open_cells,
    seal_cells,
)
from sqlalchemy_kmsenv.cell import Cell


@pytest.fixture
def table(metadata, engine, keyring):
    """A table on each database, with two encrypted columns of different scopes."""
    table = Table(
        "kmsenv_by_hand", metadata, Column("id", Integer, primary_key=True),
        Column("tenant", String(20), nullable=False),
        Column("v", Encrypted(JSON)), Column("s", Encrypted(String, scope=["tenant"])),
        Column("w", Encrypted(String, bind="column")),
    )  # fmt: skip
    attach_keyrings(metadata, keyring)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [
            {"id": i, "tenant": tenant, "v": {"n": i}, "s": f"s{i}", "w": f"w{i}"}
            for i, tenant in ((1, "a"), (2, "a"), (3, "b"))
        ])  # fmt: skip
    return table


def cells(engine, table, name):
    """The stored bytes of a column, by key of the row."""
    with engine.connect() as connection:
        query = select(table.c.id, raw(table.c[name], LargeBinary))
        return {key: bytes(value) for key, value in connection.execute(query)}


ROWS = {1: {"id": 1, "tenant": "a"}, 2: {"id": 2, "tenant": "a"}, 3: {"id": 3, "tenant": "b"}}


def test_what_was_stored_by_a_statement_opens_by_hand(table, engine, kms):
    """A pipeline reads the bytes with whatever it has, and opens them with the rows' keys."""
    stored = cells(engine, table, "s")
    assert open_cells(table.c.s, stored.values(), [ROWS[key] for key in stored]) == [
        f"s{key}" for key in stored
    ]
    assert open_cells(table.c.w, [*cells(engine, table, "w").values()][:1], [{}]) == ["w1"]
    assert open_cells(table.c.v, [None, memoryview(cells(engine, table, "v")[1])],
                      [ROWS[2], ROWS[1]]) == [None, {"n": 1}]  # fmt: skip
    kms.expect(generate_data_key=4, unwrap=4)


def test_what_is_sealed_by_hand_is_read_by_a_statement(table, engine):
    """Repair writes bytes that are then like any others."""
    (sealed,) = seal_cells(table.c.s, ["mended"], [ROWS[3]])
    assert seal_cells(table.c.s, [None], [ROWS[3]]) == [None]
    with engine.begin() as connection:
        name = connection.dialect.identifier_preparer.format_table(table)
        marker = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        connection.exec_driver_sql(f"UPDATE {name} SET s = {marker} WHERE id = 3", (sealed,))
        assert connection.scalar(select(table.c.s).where(table.c.id == 3)) == "mended"


def test_a_mapped_attribute_names_its_column(keyring):
    """As people know their columns; no database is needed."""

    class Base(DeclarativeBase):
        pass

    class Ping(Base):
        __tablename__ = "pings"
        id = mapped_column(Integer, primary_key=True)
        note = mapped_column(Encrypted(String))

    attach_keyrings(Base.metadata, keyring)
    stored = seal_cells(Ping.note, ["n"], [{"id": 1}])
    assert open_cells(Ping.note, stored, [{"id": 1}]) == ["n"]


def test_by_hand_refuses_what_a_statement_refuses(table, engine):
    """The wrong row, a missing key, plaintext, a value of another type, no encrypted column."""
    stored = cells(engine, table, "s")
    with pytest.raises(WrongCellError):
        open_cells(table.c.s, [stored[1]], [ROWS[2]])
    with pytest.raises(WrongCellError):
        open_cells(table.c.s, [stored[1]], [{**ROWS[1], "tenant": "b"}])
    with pytest.raises(UnboundValueError, match="'tenant' is missing"):
        open_cells(table.c.s, [stored[1]], [{"id": 1}])
    with pytest.raises(UnboundValueError, match="expected int"):
        seal_cells(table.c.v, ["x"], [{"id": "1"}])
    with pytest.raises(EnvelopeError):
        open_cells(table.c.s, [b"plaintext"], [ROWS[1]])
    with pytest.raises(InvalidValueError):
        seal_cells(table.c.s, [5], [ROWS[1]])
    with pytest.raises(ConfigurationError, match="not an encrypted column"):
        seal_cells(table.c.tenant, ["x"], [ROWS[1]])
    with pytest.raises(ConfigurationError, match="2 values and 1 rows"):
        seal_cells(table.c.s, ["x", "y"], [ROWS[1]])


def damaged(stored, index):
    """The bytes with one of them changed."""
    return stored[:index] + bytes([stored[index] ^ 1]) + stored[index + 1 :]


FOUND = {
    "itself": (lambda c: c["s"][1], Finding.OPENS),
    "nothing": (lambda _: None, Finding.NULL),
    "plaintext": (lambda _: b"plaintext", Finding.NO_ENVELOPE),
    "cut off": (lambda c: c["s"][1][:100], Finding.NO_ENVELOPE),
    "another row": (lambda c: c["s"][2], Finding.OTHER_CELL),
    "another scope": (lambda c: c["s"][3], Finding.OTHER_CELL),
    "another column": (lambda c: c["v"][1], Finding.OTHER_CELL),
    "a column bound to no row": (lambda c: c["w"][3], Finding.OTHER_CELL),
    "a column of a row not tried": (lambda c: c["v"][9], Finding.OTHER_KEY_CONTEXT),
    "a damaged value": (lambda c: damaged(c["s"][1], -1), Finding.OTHER_ROW_OR_DAMAGED),
    "a damaged nonce": (lambda c: damaged(c["s"][1], -20), Finding.OTHER_ROW_OR_DAMAGED),
    "a damaged wrapped key": (lambda c: damaged(c["s"][1], 100), Finding.OTHER_KEY_CONTEXT),
    "a damaged fingerprint": (lambda c: damaged(c["s"][1], 5), Finding.OTHER_KMS_KEY),
    "a damaged commitment": (lambda c: damaged(c["s"][1], 25), Finding.DAMAGED_KEY),
}


@pytest.mark.parametrize("what", FOUND)
def test_an_explanation_names_the_part_that_differs(what, table, engine):
    """As far as can be known from bytes, keys and the rows that were given; never a value."""
    stored = {name: cells(engine, table, name) for name in ("v", "s", "w")}
    stored["v"][9] = seal_cells(table.c.v, ["canary"], [{"id": 9}])[0]
    bytes_of, finding = FOUND[what]
    found = explain(table.c.s, bytes_of(stored), ROWS[1], others=[ROWS[2], ROWS[3]])
    assert found.finding is finding, str(found)
    assert (found.home is not None) == (finding is Finding.OTHER_CELL)
    assert "kmsenv_by_hand.s, row (1)" in str(found)
    assert "s1" not in str(found).replace(".s1", "")
    assert "canary" not in repr(found)


def test_an_explanation_says_where_a_copied_value_came_from(table, engine):
    """With its row and its scope, in words."""
    found = explain(table.c.s, cells(engine, table, "s")[3], ROWS[1], others=ROWS.values())
    assert "It belongs to kmsenv_by_hand.s, row (3), tenant b" in str(found)
    assert found.home == Cell("kmsenv_by_hand", "s", (b"i3",), (b"s62",))


def test_an_explanation_tells_a_failing_key_service_from_a_foreign_key(
    table, engine, local_kms, keyring, tmp_path
):
    """Disabled is not damaged, and an unlisted key is not a wrong row."""
    stored = cells(engine, table, "s")[1]
    local_kms.disable()
    keyring.forget()
    assert explain(table.c.s, stored, ROWS[1]).finding is Finding.KEY_SERVICE
    attach_keyrings(table.metadata, Keyring(LocalKms.create(tmp_path / "other.json")))
    found = explain(table.c.s, stored, ROWS[1])
    assert found.finding is Finding.OTHER_KMS_KEY
    assert "unwrap_only" in str(found)


def test_a_value_that_opens_but_is_of_another_type_is_told(table):
    """After a change of the column's type."""
    stored = seal_cells(table.c.v, ["gone"], [{"id": 1}])[0]
    changed = table.to_metadata(type(table.metadata)())
    changed.c.v.type = Encrypted(Enum("kept"))
    changed.c.v.type.adopt(changed.c.v)
    attach_keyrings(changed.metadata, table.metadata.info["sqlalchemy_kmsenv.keyrings"]["default"])
    assert explain(changed.c.v, stored, {"id": 1}).finding is Finding.OTHER_TYPE


@pytest.mark.parametrize("stored", ["plaintext", 10**15, 1.5])
def test_what_is_no_bytes_is_no_envelope(table, keyring, stored):
    """SQLite gives back the text or the number that somebody has stored there."""
    before = keyring.stats().values_refused
    with pytest.raises(EnvelopeError, match=f"but a {type(stored).__name__}"):
        open_cells(table.c.s, [stored], [ROWS[1]])
    assert keyring.stats().values_refused == before + 1
    found = explain(table.c.s, stored, ROWS[1])
    assert found.finding is Finding.NO_ENVELOPE
    assert "plaintext" not in str(found)
