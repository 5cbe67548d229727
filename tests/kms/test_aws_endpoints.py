"""Where ``AwsKms`` sends its requests, whoever named the endpoint."""

import socket

import pytest

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms import AwsKms
from tests.kms.aws_stub import session
from tests.kms.sts_stub import running_sts
from tests.kms.test_aws import CONTEXT, KEY_ARN, generated, stubbed
from tests.kms.test_aws_production import MRK, ROLE

IN_DISGUISE = [
    "HTTP://kms.internal",
    "Http://0.0.0.0:80",
    " http://kms.internal",
    "\thttp://kms.internal",
    "ht\ntp://kms.internal",
    "http://kms.internal\r",
    "\x00http://kms.internal",
    "http://127.0.0.1\xa0.kms.internal",
]


@pytest.mark.parametrize("url", IN_DISGUISE)
@pytest.mark.parametrize("name", ["endpoint_url", "sts_endpoint_url"])
def test_http_is_recognised_however_it_is_written(url, name):
    """Schemes have no case, and parsers of URLs drop blanks and control characters."""
    with pytest.raises(ConfigurationError, match=f"^{name} is refused"):
        AwsKms(KEY_ARN, role_arn=ROLE, **{name: url})


@pytest.mark.parametrize("url", [url for url in IN_DISGUISE if "\x00" not in url])
def test_http_of_the_environment_is_recognised_however_it_is_written(url, monkeypatch):
    """An environment is written by more hands than the code."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)

    with pytest.raises(ConfigurationError):
        AwsKms(KEY_ARN, session=session(), max_attempts=1).generate_data_key(CONTEXT)


def test_http_on_this_machine_may_be_written_in_capitals(stub):
    """The check must not refuse what is harmless either."""
    stub.answer = generated()

    made = stubbed(stub, endpoint_url=stub.url.upper()).generate_data_key(CONTEXT)

    assert made.key_arn == KEY_ARN


@pytest.fixture
def sts():
    """An STS that gives credentials for an hour."""
    with running_sts() as sts:
        yield sts


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_role_is_not_assumed_over_http_of_the_environment(stub, sts, monkeypatch, scheme):
    """The credentials of the role come back in the answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"{scheme}://0.0.0.0:{sts.url.rpartition(':')[2]}")
    stub.answer = generated()

    with pytest.raises(ConfigurationError, match=r"^the endpoint of STS is refused: over http"):
        stubbed(stub, role_arn=ROLE).generate_data_key(CONTEXT)

    assert (sts.requests, stub.requests) == ([], [])
    stubbed(stub, role_arn=ROLE, allow_http=True).generate_data_key(CONTEXT)
    assert len(sts.requests) == 1


@pytest.mark.parametrize("named_by", ["option", "environment"])
def test_http_on_this_machine_goes_through_no_proxy(stub, sts, monkeypatch, named_by):
    """Data keys and the credentials of the role would leave the machine in the clear."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    stub.answer = generated()
    options = {"endpoint_url": stub.url, "sts_endpoint_url": sts.url}
    if named_by == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", stub.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = {"endpoint_url": None}

    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        kms = stubbed(stub, role_arn=ROLE, read_timeout_seconds=0.5, **options)
        made = kms.generate_data_key(CONTEXT)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()

    assert made.key_arn == KEY_ARN
    assert len(sts.requests) == len(stub.requests) == 1


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"])
def test_endpoint_of_the_environment_cannot_serve_several_regions(monkeypatch, variable):
    """Found at the first call, and not on the day on which the replica is needed."""
    monkeypatch.setenv(variable, "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com")
    kms = AwsKms(MRK, replica_regions=["us-east-1"], session=session())

    for client in kms._regions._clients:
        with pytest.raises(ConfigurationError, match="one endpoint serves one Region"):
            client._client()


def test_replicas_are_asked_at_their_own_endpoints():
    """What the check must let pass."""
    kms = AwsKms(MRK, replica_regions=["us-east-1"], session=session(), use_fips=True)

    hosts = [client._client().meta.endpoint_url for client in kms._regions._clients]

    assert hosts == [
        "https://kms-fips.eu-central-1.amazonaws.com",
        "https://kms-fips.us-east-1.amazonaws.com",
    ]
