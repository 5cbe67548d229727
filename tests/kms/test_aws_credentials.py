"""Credentials that come late, are not there, or are of no use."""

import socket
import threading

import boto3
import pytest

from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceDeniedError,
    KeyServiceUnavailableError,
)
from sqlalchemy_kmsenv.kms import AwsKms
from sqlalchemy_kmsenv.testing import KmsServer
from tests.kms.aws_stub import error, session
from tests.kms.sts_stub import running_sts
from tests.kms.test_aws import CONTEXT, KEY_ARN, REGION, as_botocore_tells, generated, stubbed
from tests.kms.test_aws_production import MRK, ROLE


@pytest.mark.parametrize("own_session", [True, False])
def test_credentials_that_come_after_the_first_call_are_found(stub, monkeypatch, own_session):
    """A process may start before the sidecar that writes its credentials."""
    stub.answer = generated()
    session = boto3.session.Session(region_name=REGION) if own_session else None
    kms = AwsKms(KEY_ARN, endpoint_url=stub.url, session=session, max_attempts=1)
    for _ in range(2):
        with pytest.raises(KeyServiceDeniedError) as caught:
            kms.generate_data_key(CONTEXT)
        assert caught.value.code == "NoCredentialsError"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")

    assert kms.generate_data_key(CONTEXT).key_arn == KEY_ARN
    assert len(stub.requests) == 1


class Unsettled(boto3.session.Session):
    """What botocore meets where another thread takes a variable out of the environment."""

    meets = 1

    def client(self, *args, **options):
        """A client, but for the first time."""
        if self.meets:
            self.meets -= 1
            raise KeyError("PYTEST_CURRENT_TEST")
        return super().client(*args, **options)


def test_environment_may_change_while_the_client_is_made(stub):
    """All of it is looked through for proxies."""
    stub.answer = generated()
    kms = AwsKms(
        KEY_ARN, endpoint_url=stub.url, session=Unsettled("id", "secret", region_name=REGION)
    )

    assert kms.generate_data_key(CONTEXT).key_arn == KEY_ARN


def uses(kms):
    """A call, a dry run, and a look at what can be asked for."""
    calls = [
        lambda: kms.generate_data_key(CONTEXT),
        lambda: kms.would_generate(CONTEXT),
    ]
    # An older botocore does not know what to ask for, whatever the credentials.
    if as_botocore_tells("new") is not None:
        calls.append(lambda: kms.would_unwrap(CONTEXT, key_arn=KEY_ARN))
    return calls


def test_missing_token_file_is_a_denial(stub, monkeypatch, tmp_path):
    """A pod without its service account; the file may come, and is looked for again."""
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)

    for use in uses(AwsKms(KEY_ARN, endpoint_url=stub.url, max_attempts=1)):
        with pytest.raises(KeyServiceDeniedError) as caught:
            use()
        assert caught.value.code == "FileNotFoundError"
        assert str(tmp_path) not in str(caught.value)
    assert stub.requests == []


def test_role_credentials_that_have_expired_are_a_denial(stub):
    """The clock of one of the two machines is wrong."""
    with running_sts() as sts:
        sts.lifetime_seconds = -60
        kms = stubbed(stub, role_arn=ROLE, sts_endpoint_url=sts.url)

        for use in uses(kms)[:2]:
            with pytest.raises(KeyServiceDeniedError) as caught:
                use()
            assert caught.value.code == "RuntimeError"
    assert stub.requests == []


def test_failing_source_of_credentials_may_be_tried_again(stub, monkeypatch):
    """The agent of a container is restarted as well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/c")
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)

    with pytest.raises(KeyServiceUnavailableError) as caught:
        AwsKms(KEY_ARN, endpoint_url=stub.url).generate_data_key(CONTEXT)

    assert caught.value.code == "CredentialRetrievalError"


@pytest.fixture
def no_tls():
    """The port of a server that answers TLS with something else, and how often it was asked."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            while True:
                connection, _ = listening.accept()
                with connection:
                    hello = connection.recv(65536)
                    if hello == b"stop":
                        return
                    asked.append(hello)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        yield port, asked
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"stop")
        thread.join()


def test_failing_tls_is_a_matter_of_configuration(no_tls):
    """Whoever answers is not AWS: no replica is asked instead, as if it were an outage."""
    port, asked = no_tls
    kms = AwsKms(
        MRK,
        endpoint_url=f"https://127.0.0.1:{port}",
        replica_regions=["us-east-1"],
        session=session(),
        max_attempts=1,
    )

    with pytest.raises(ConfigurationError, match="SSLError"):
        kms.unwrap(b"wrapped" * 20, CONTEXT, key_arn=MRK)

    assert len(asked) == 1


@pytest.fixture
def shared_file(monkeypatch, tmp_path):
    """Writes the shared file of credentials, as a sidecar or a person does."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def write(access_key_id, secret):
        path.write_text(
            f"[default]\naws_access_key_id={access_key_id}\naws_secret_access_key={secret}\n"
        )

    return write


def test_credentials_that_were_renewed_beside_the_process_are_read_again(shared_file):
    """A worker outlives its session token; nobody restarts it at night."""
    with KmsServer() as server:
        root = server.root
        key = server.create_key()
        kms = AwsKms(key.arn, endpoint_url=server.url, max_attempts=1)
        shared_file(root.access_key_id, root.secret_access_key)
        made = kms.generate_data_key(CONTEXT)
        for number in range(2):
            shared_file(f"AKIAENDED{number}", "ended")
            fresh = AwsKms(key.arn, endpoint_url=server.url, max_attempts=1)
            with pytest.raises(KeyServiceDeniedError):
                fresh.generate_data_key(CONTEXT)
            shared_file(root.access_key_id, root.secret_access_key)
            assert fresh.generate_data_key(CONTEXT).key_arn == key.arn
            fresh.would_unwrap(CONTEXT, key_arn=key.arn, wrapped=made.wrapped)


def test_credentials_that_ended_and_were_not_renewed_cost_one_request(stub, shared_file):
    """The file is read again; the service is not asked twice with the same."""
    shared_file("AKIAENDED", "ended")
    stub.answer = error("ExpiredTokenException")
    kms = AwsKms(KEY_ARN, endpoint_url=stub.url, max_attempts=1)

    for calls in (1, 2):
        with pytest.raises(KeyServiceDeniedError):
            kms.generate_data_key(CONTEXT)
        assert len(stub.requests) == calls

    shared_file("AKIAOTHER", "ended as well")
    with pytest.raises(KeyServiceDeniedError):
        kms.generate_data_key(CONTEXT)
    # Once more with the others, and that is all.
    assert len(stub.requests) == 4


def test_the_credentials_of_a_given_session_are_not_looked_for_elsewhere(stub, shared_file):
    """Whoever gives a session says who the caller is."""
    stub.answer = error("ExpiredTokenException")
    kms = stubbed(stub)
    shared_file("AKIAOTHER", "of somebody else")

    with pytest.raises(KeyServiceDeniedError):
        kms.generate_data_key(CONTEXT)

    assert len(stub.requests) == 1
