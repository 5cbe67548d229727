"""Clients of the KMS under test; the server itself comes from the plug-in."""

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sqlalchemy_kmsenv.testing import Principal, client

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=5, parameter_validation=False)
"""One try, and whatever a test sends is sent."""


def code_of(call, /, *args, **parameters):
    """The error code that a call is answered with; None for success."""
    try:
        call(*args, **parameters)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def allow(*actions, resource="*", **conditions):
    """A policy with one statement; ``conditions`` are operators with their keys."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    if conditions:
        statement["Condition"] = conditions
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.fixture
def admin(kms_server):
    """A boto3 client that may do everything."""
    made = client(kms_server, config=ONCE)
    yield made
    made.close()


@pytest.fixture
def as_principal(kms_server):
    """A function: the boto3 client of a new or changed principal with these policies."""
    made = []

    def connect(*policies, name="somebody", region=None):
        principal: Principal = kms_server.create_principal(name, *policies)
        made.append(client(kms_server, principal, region=region, config=ONCE))
        return made[-1]

    yield connect
    for one in made:
        one.close()


class ManualClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now
