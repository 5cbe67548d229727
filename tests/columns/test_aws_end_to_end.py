"""A model on real boto3 against a KMS over HTTP on loopback."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.pool import StaticPool

from sqlalchemy_kmsenv import AwsKms, Encrypted, Keyring, WrongCellError, attach_keyrings
from sqlalchemy_kmsenv.kms import CountingKms


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a KMS on a free port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def alias(endpoint, monkeypatch) -> str:
    """A new KMS key under an alias, and credentials to use it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    client = boto3.client("kms", region_name="eu-central-1", endpoint_url=endpoint)
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    name = f"alias/kmsenv-{key_id}"
    client.create_alias(AliasName=name, TargetKeyId=key_id)
    client.close()
    return name


def test_a_model_on_an_alias_writes_and_a_fresh_process_reads(endpoint, alias):
    """URI, GenerateDataKey, DescribeKey and a pinned Decrypt, as in production."""
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", Integer, primary_key=True),
        Column("tenant", String(20), nullable=False),
        Column("v", Encrypted(String, scope=["tenant"])),
        Column("w", Encrypted(String, scope=["tenant"])),
    )  # fmt: skip
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    uri = f"aws-kms:///{alias}?region=eu-central-1&endpoint_url={endpoint}"
    attach_keyrings(metadata, default=Keyring(uri, context={"app": "test"}))
    with engine.begin() as connection:
        rows = [{"id": i, "tenant": f"t{i % 2}", "v": f"v{i}"} for i in range(6)]
        connection.execute(insert(table), rows)
    counted = CountingKms(AwsKms(alias, region="eu-central-1", endpoint_url=endpoint))
    attach_keyrings(metadata, default=Keyring(counted, context={"app": "test"}))
    with engine.begin() as connection:
        with counted.expect(unwrap=2):
            values = connection.scalars(select(table.c.v).order_by(table.c.id)).all()
        assert values == [f"v{i}" for i in range(6)]
        connection.exec_driver_sql("UPDATE t SET w = v WHERE id = 1")
        with pytest.raises(WrongCellError, match=r"t\.w"):
            connection.scalars(select(table.c.w).where(table.c.id == 1)).all()
    attach_keyrings(metadata, default=Keyring(uri))
    with engine.begin() as connection, pytest.raises(WrongCellError):
        connection.scalars(select(table.c.v)).all()
    engine.dispose()
