"""What somebody who may write to a table can make its readers pay."""

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from sqlalchemy_kmsenv import Encrypted, Keyring, KmsEnvError, attach_keyrings
from tests.columns.conftest import overwrite, stored

WRAPPED = 60


@pytest.fixture(params=["column", ["tenant"]], ids=["shared", "scoped"])
def table(engine, request):
    """Thirty values, under one data key or under one for each of three tenants."""
    metadata = MetaData()
    table = Table(
        "kmsenv_costs",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", String(10), nullable=False),
        Column("note", Encrypted(String, scope=request.param)),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield table
    metadata.drop_all(engine)


@pytest.fixture
def written(engine, table, kms):
    """The values are there; whoever reads them is another process."""
    attach_keyrings(table.metadata, Keyring(kms))
    rows = [{"id": n, "tenant": f"t{n % 3}", "note": f"v{n}"} for n in range(30)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    attach_keyrings(table.metadata, Keyring(kms))
    return 3 if table.c.note.type.scope != "column" else 1


def alter(engine, table, row, change):
    """Change the stored bytes of one cell."""
    with engine.begin() as connection:
        raw = stored(connection, table.c.note, table.c.id == row)
        overwrite(connection, table, "note", change(raw), row)


def test_altered_material_hints_cost_no_decrypt(engine, table, kms, written):
    """They say which rotation wrapped a data key, and nobody authenticates them."""
    for row in range(30):
        alter(engine, table, row, lambda raw, n=row: raw[:12] + bytes([n] * 8) + raw[20:])
    with engine.connect() as connection, kms.expect(unwrap=written):
        for _ in range(2):
            assert len(connection.execute(select(table.c.note)).all()) == 30


def test_one_altered_cell_costs_one_decrypt_however_often_it_is_read(engine, table, kms, written):
    """It is refused at each read, in the same words; the KMS is not asked for each."""
    alter(engine, table, 0, lambda raw: raw[:WRAPPED] + bytes([raw[WRAPPED] ^ 1]) + raw[61:])
    said = set()
    with engine.connect() as connection, kms.expect(unwrap=1):
        for _ in range(20):
            with pytest.raises(KmsEnvError) as caught:
                connection.execute(select(table.c.note).where(table.c.id == 0)).all()
            said.add((type(caught.value), str(caught.value)))
    assert len(said) == 1
    with engine.connect() as connection:
        others = connection.scalars(select(table.c.note).where(table.c.id > 0)).all()
    assert sorted(others) == sorted(f"v{n}" for n in range(1, 30))
    assert written
