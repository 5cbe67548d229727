"""Credentials that come late, are not there, or are of no use."""

import boto3
import pytest

from sqlalchemy_kmsenv.errors import KeyServiceDeniedError
from sqlalchemy_kmsenv.kms import AwsKms
from tests.kms.test_aws import CONTEXT, KEY_ARN, REGION, generated, stubbed


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
