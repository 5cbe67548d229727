"""The job through real boto3 against a KMS over HTTP on loopback."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sqlalchemy_kmsenv import AwsKms, Keyring, attach_keyrings
from sqlalchemy_kmsenv.rewrap import FormerBinding, reencrypt, rewrap, survey, verify
from tests.conftest import on
from tests.rewrap.conftest import Notes, text_of

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a KMS on a free port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def keys(endpoint) -> tuple[AwsKms, AwsKms]:
    """Two keys of one account."""
    session = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    )
    client = session.client("kms", endpoint_url=endpoint)
    arns = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    client.close()
    old, new = (AwsKms(arn, session=session, endpoint_url=endpoint) for arn in arns)
    return old, new


@on("sqlite")
def test_a_table_moves_from_one_key_to_another(notes: Notes, keys):
    """ReEncrypt with both keys pinned, as in an account; this KMS does not tell its material."""
    old, new = keys
    attach_keyrings(notes.metadata, default=Keyring(old), local=Keyring(notes.key))
    reencrypt(notes.engine, notes.metadata, former=FormerBinding(keyring="local"))
    attach_keyrings(notes.metadata, default=Keyring(new, unwrap_only=[old]))
    before = survey(notes.engine, notes.metadata).columns[0]

    report = rewrap(notes.engine, notes.metadata, workers=2, batch_size=5)

    assert [(key.key_arn, key.envelopes) for key in before.keys] == [(old.resolve(), 27)]
    assert before.target.key_arn == new.resolve()
    assert before.target.material_hint is None
    assert report.ok
    assert (report.counts.rewritten, report.counts.kms_calls) == (57, 4)
    attach_keyrings(notes.metadata, default=Keyring(new))
    assert verify(notes.engine, notes.metadata).ok
    assert notes.texts() == {n: text_of(n) for n in range(30)}
