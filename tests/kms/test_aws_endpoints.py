"""Where ``AwsKms`` sends its requests, whoever named the endpoint."""

import pytest

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms import AwsKms
from tests.kms.aws_stub import session
from tests.kms.sts_stub import running_sts
from tests.kms.test_aws import CONTEXT, KEY_ARN, generated, stubbed
from tests.kms.test_aws_production import ROLE

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
