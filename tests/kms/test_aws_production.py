"""``AwsKms`` as it is run: roles, Regions, endpoints, and how long a call can take."""

import inspect
import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from sqlalchemy_kmsenv import Keyring, KeyUse
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceDeniedError,
    KeyServiceError,
    KeyServiceUnavailableError,
    KeyStateError,
    WrongCellError,
)
from sqlalchemy_kmsenv.kms import AwsKms, RotatingKms, kms_from_uri
from sqlalchemy_kmsenv.kms.aws_regions import Regions
from sqlalchemy_kmsenv.kms.uri import AWS_OPTIONS
from sqlalchemy_kmsenv.testing import Fault, KmsServer
from sqlalchemy_kmsenv.testing.clients import aws_kms
from sqlalchemy_kmsenv.version import VERSION
from tests.kms.aws_stub import Answer, error, session
from tests.kms.sts_stub import running_sts
from tests.kms.test_aws import (
    CONTEXT,
    KEY_ARN,
    KEY_ID,
    assert_holds_no_secret,
    generated,
    stubbed,
)

ROLE = "arn:aws:iam::111122223333:role/service/reader"
MRK = "arn:aws:kms:eu-central-1:111122223333:key/mrk-" + "0a" * 16
DOCUMENT = Path(__file__).parents[2] / "docs" / "aws.md"


# Who calls


@pytest.fixture
def sts():
    """An STS that gives credentials for an hour."""
    with running_sts() as sts:
        yield sts


def of_role(stub, sts, **options):
    """A key behind ``stub``, used as a role that ``sts`` gives."""
    return stubbed(stub, role_arn=ROLE, sts_endpoint_url=sts.url, **options)


def access_keys(stub):
    """With which access key each request was signed."""
    credential = re.compile(r"Credential=([^/]+)/")
    found = [credential.search(request.headers["Authorization"]) for request in stub.requests]
    return [match[1] for match in found if match]


def test_role_is_assumed_once_and_signs_the_calls(stub, sts):
    """The process's own identity needs no right but this one."""
    stub.answer = generated()
    kms = of_role(stub, sts, external_id="tenant:7", role_session_name="billing-worker")

    for _ in range(3):
        kms.generate_data_key(CONTEXT)

    (asked,) = sts.requests
    assert asked["RoleArn"] == ROLE
    assert asked["ExternalId"] == "tenant:7"
    assert asked["RoleSessionName"] == "billing-worker"
    assert f"sqlalchemy-kmsenv/{VERSION}" in asked["user agent"]
    assert access_keys(stub) == ["ASIAROLE1"] * 3
    assert {request.headers["X-Amz-Security-Token"] for request in stub.requests} == {"token"}


def test_credentials_of_a_role_are_renewed_before_they_expire(stub, sts):
    """A process lives for months, a role's credentials for an hour."""
    stub.answer = generated()
    sts.lifetime_seconds = 300
    kms = of_role(stub, sts)

    kms.generate_data_key(CONTEXT)
    sts.lifetime_seconds = 3600
    kms.generate_data_key(CONTEXT)
    kms.generate_data_key(CONTEXT)

    assert len(sts.requests) >= 2
    assert access_keys(stub)[-1] == access_keys(stub)[-2] == f"ASIAROLE{len(sts.requests)}"


def test_role_that_may_not_be_assumed_is_named(stub, sts):
    """Otherwise one looks for the fault in the key's policy."""
    sts.denies = True

    with pytest.raises(KeyServiceDeniedError, match=ROLE) as caught:
        of_role(stub, sts).generate_data_key(CONTEXT)

    assert (caught.value.operation, caught.value.code) == ("AssumeRole", "AccessDenied")
    assert caught.value.request_id == "sts-request"
    assert stub.requests == []


def test_role_comes_by_uri_too(stub, sts, monkeypatch):
    """Most services are configured by one text."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    stub.answer = generated()
    kms = kms_from_uri(
        f"aws-kms:///{KEY_ARN}?role_arn={ROLE}&endpoint_url={stub.url}&sts_endpoint_url={sts.url}"
    )

    kms.generate_data_key(CONTEXT)

    assert access_keys(stub) == ["ASIAROLE1"]


# What is sent


def test_requests_say_who_sends_them(stub):
    """CloudTrail has the user agent: what is ours, and which release, can be told."""
    stub.answer = generated()

    stubbed(stub).generate_data_key(CONTEXT)

    assert f"sqlalchemy-kmsenv/{VERSION}" in stub.requests[0].headers["User-Agent"]


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "kms.us-east-1.amazonaws.com"),
        ({"use_fips": True}, "kms-fips.us-east-1.amazonaws.com"),
        ({"use_dualstack": True}, "kms.us-east-1.api.aws"),
        ({"use_fips": True, "use_dualstack": True}, "kms-fips.us-east-1.api.aws"),
        (
            {"endpoint_url": "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"},
            "vpce-1.kms.us-east-1.vpce.amazonaws.com",
        ),
    ],
)
def test_endpoint_is_the_one_asked_for(options, host):
    """Auditors ask for FIPS endpoints, networks for those of the VPC."""
    kms = AwsKms("alias/x", region="us-east-1", session=session(), **options)

    assert kms._client._client().meta.endpoint_url == f"https://{host}"


def test_pool_keeps_as_many_connections_as_asked_for():
    """One a thread that may miss the cache at the same time."""
    kms = AwsKms("alias/x", region="us-east-1", session=session(), pool_connections=32)

    config: Any = kms._client._client().meta.config
    assert config.max_pool_connections == 32


# What is refused


@pytest.mark.parametrize("url", ["http://kms.internal", "http://10.0.0.7:4566", "http://[::2]"])
@pytest.mark.parametrize("name", ["endpoint_url", "sts_endpoint_url"])
def test_http_to_another_machine_is_refused(url, name):
    """Everybody on the way would read the data keys."""
    with pytest.raises(ConfigurationError, match=f"^{name} is refused: over http"):
        AwsKms(KEY_ARN, role_arn=ROLE, **{name: url})

    AwsKms(KEY_ARN, role_arn=ROLE, allow_http=True, **{name: url})


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1"])
def test_http_on_this_machine_is_taken(url):
    """Emulators and tests."""
    assert url in repr(AwsKms(KEY_ARN, endpoint_url=url))


def test_http_endpoint_of_the_environment_is_refused_as_well(monkeypatch):
    """It is nobody's explicit wish."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.internal")

    with pytest.raises(ConfigurationError, match="over http"):
        AwsKms(KEY_ARN, session=session()).generate_data_key(CONTEXT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role_arn": "reader"}, "role_arn"),
        ({"role_arn": ROLE, "external_id": "canary!"}, "external_id"),
        ({"role_arn": ROLE, "role_session_name": "x"}, "role_session_name"),
        ({"external_id": "canary"}, "external_id is refused: it needs a role_arn"),
        ({"sts_endpoint_url": "https://sts.x"}, "sts_endpoint_url is refused: it needs"),
        ({"pool_connections": 0}, "pool_connections"),
        ({"replica_regions": ["us-east-1"]}, "no multi-Region key"),
    ],
)
def test_senseless_option_is_refused_at_once(options, message):
    """Not at the first insert, and without repeating what may be secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        AwsKms(KEY_ARN, **options)

    assert_holds_no_secret(caught.value)


@pytest.mark.parametrize("regions", ["us-east-1", ["eu-central-1"], ["us-east-1"] * 2, ["nowhere"]])
def test_replica_regions_are_a_list_of_other_regions(regions):
    """The same Region twice is no second chance."""
    with pytest.raises(ConfigurationError, match="replica_regions"):
        AwsKms(MRK, replica_regions=regions)


def test_one_endpoint_cannot_serve_several_regions():
    """The replicas would be asked where they are not."""
    with pytest.raises(ConfigurationError, match="one endpoint serves one Region"):
        AwsKms(MRK, replica_regions=["us-east-1"], endpoint_url="https://vpce-1.example.org")


# How long it takes


def test_longest_call_is_known_beforehand():
    """A transaction waits for it with its locks held."""
    assert AwsKms(KEY_ARN).worst_case_seconds == 15
    assert AwsKms(KEY_ARN, max_attempts=1).worst_case_seconds == 4
    assert AwsKms(KEY_ARN, role_arn=ROLE).worst_case_seconds == 30
    assert AwsKms(MRK, replica_regions=["us-east-1", "eu-west-1"]).worst_case_seconds == 45


def test_server_that_never_answers_is_given_up_after_the_tries_that_time_is_for():
    """Whatever botocore does: one more try, and the sum would not hold."""
    with KmsServer() as server:
        server.weather.fault(Fault.TIMEOUT)
        key = server.create_key()
        kms = aws_kms(
            server, key.arn, connect_timeout_seconds=0.2, read_timeout_seconds=0.2, max_attempts=2
        )

        with pytest.raises(KeyServiceUnavailableError):
            kms.generate_data_key(CONTEXT)

        assert server.calls["generate_data_key"] == 2


@pytest.mark.parametrize("retry_mode", ["standard", "adaptive"])
def test_quota_of_resources_is_not_tried_again(stub, retry_mode):
    """Botocore takes LimitExceededException for a throttle; with KMS no waiting cures it."""
    stub.answer = error("LimitExceededException")
    kms = stubbed(stub, max_attempts=3, retry_mode=retry_mode)

    with pytest.raises(KeyServiceError) as caught:
        kms.generate_data_key(CONTEXT)

    assert type(caught.value) is KeyServiceError
    assert (caught.value.code, caught.value.request_id) == ("LimitExceededException", "request-7")
    assert len(stub.requests) == 1


def test_throttle_is_tried_again_on_the_wire(stub):
    """The other side of the same switch."""
    stub.answer = error("ThrottlingException")

    with pytest.raises(KeyServiceUnavailableError):
        stubbed(stub, max_attempts=2).generate_data_key(CONTEXT)

    assert len(stub.requests) == 2


# Several Regions


@pytest.fixture
def server():
    """A KMS that stands for every Region."""
    with KmsServer() as server:
        yield server


@pytest.fixture
def replicated(server):
    """A multi-Region key, its replica, and an ``AwsKms`` that knows both."""
    key = server.create_key(MultiRegion=True)
    replica = key.replicate("us-east-1")
    kms = aws_kms(server, key.arn, replica_regions=["us-east-1"], max_attempts=1)
    return key, replica, kms


def test_replica_unwraps_where_the_first_region_is_unavailable(server, replicated):
    """What a replica is paid for."""
    key, replica, kms = replicated
    made = kms.generate_data_key(CONTEXT)
    server.weather.fault(Fault.THROTTLING, "Decrypt", times=1)

    unwrapped = kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert unwrapped == made.plaintext
    assert (made.key_arn, unwrapped.key_arn) == (key.arn, replica.arn)
    assert unwrapped.request_id == server.events[-1].request_id


def test_region_that_was_unavailable_is_tried_last_for_a_while(server, replicated):
    """A thousand data keys must not wait for it a thousand times."""
    _, replica, kms = replicated
    made = kms.generate_data_key(CONTEXT)
    server.weather.fault(Fault.INTERNAL, "Decrypt", times=1)

    for _ in range(3):
        kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert server.calls["decrypt"] == 4
    assert kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn).key_arn == replica.arn


def test_first_region_is_asked_first_again_after_the_pause():
    """It is the nearest one."""
    home, *replicas = (AwsKms("alias/x", region=region)._client for region in "abc")
    now = [100.0]
    regions = Regions(home, replicas, clock=lambda: now[0])
    down = {"a"}
    asked = []

    def ask(client, arn):
        asked.append((client.region, arn.split(":")[3]))
        if client.region in down:
            raise KeyServiceUnavailableError("down")
        return client.region

    assert regions.ask(MRK, ask) == "b"
    assert regions.ask(MRK, ask) == "b"
    now[0] += 31
    down.clear()
    assert regions.ask(MRK, ask) == "a"
    assert asked == [("a", "eu-central-1"), ("b", "b"), ("b", "b"), ("a", "eu-central-1")]


def test_refusal_is_final_in_whichever_region(server, replicated):
    """A replica would answer the same, later; a disabled key is disabled on purpose."""
    key, _, kms = replicated
    made = kms.generate_data_key(CONTEXT)

    with server.expect(decrypt=1), pytest.raises(WrongCellError):
        kms.unwrap(made.wrapped, {"user": "other"}, key_arn=made.key_arn)
    nobody = server.create_principal("nobody")
    denied = aws_kms(server, key.arn, nobody, replica_regions=["us-east-1"])
    with server.expect(decrypt=1), pytest.raises(KeyServiceDeniedError):
        denied.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)
    key.disable()
    with server.expect(decrypt=1), pytest.raises(KeyStateError):
        kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)


def test_all_regions_unavailable_is_reported_with_each(server, replicated):
    """An operator sees that the second chance was taken."""
    key, replica, kms = replicated
    made = kms.generate_data_key(CONTEXT)
    server.weather.fault(Fault.INTERNAL, "Decrypt")

    with server.expect(decrypt=2), pytest.raises(KeyServiceUnavailableError) as caught:
        kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert key.arn in str(caught.value)
    assert any(replica.arn in note for note in caught.value.__notes__)


def test_key_of_one_region_is_asked_there_alone(server):
    """An alias may lead to a key that has no replicas."""
    key = server.create_key(alias="alias/one")
    kms = aws_kms(server, "alias/one", region="eu-central-1", replica_regions=["us-east-1"])
    made = kms.generate_data_key(CONTEXT)
    assert made.key_arn == key.arn

    server.weather.fault(Fault.KEY_UNAVAILABLE, "Decrypt")
    with server.expect(decrypt=3), pytest.raises(KeyServiceUnavailableError):
        kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)


def test_keyring_reads_on_through_a_replica(server, replicated):
    """Envelopes name the key without its Region."""
    _, replica, kms = replicated
    told: list[KeyUse] = []
    keyring = Keyring(kms, audit=told.append)
    (envelope,) = keyring.seal_many((("a", "b"),), 2, b"p", [b"i1:"], [b"x"])
    server.weather.fault(Fault.INTERNAL, "Decrypt", times=1)
    keyring.opening_key((("a", "b"),), parse_header(bytes(envelope)).reference)

    assert (told[-1].operation, told[-1].key_arn) == ("unwrap", replica.arn)


@pytest.mark.parametrize("form", ["arn", "alias arn", "id", "multi-region id"])
def test_key_may_be_named_in_every_form(server, form):
    """Each has its use: the ARN needs no DescribeKey, an alias can move."""
    key = server.create_key(alias="alias/x", MultiRegion=form.startswith("multi"))
    alias_arn = key.arn.rpartition(":")[0] + ":alias/x"
    name = {"arn": key.arn, "alias arn": alias_arn}.get(form, key.id)

    made = aws_kms(server, name).generate_data_key(CONTEXT)

    assert made.key_arn == key.arn
    assert made.request_id == server.events[-1].request_id


def test_rotation_is_told(server):
    """Somebody will ask whether the key rotates, and when next."""
    key = server.create_key(alias="alias/x")
    kms = aws_kms(server, "alias/x")
    assert isinstance(kms, RotatingKms)
    assert not kms.rotation().enabled

    server.call("EnableKeyRotation", KeyId=key.arn, RotationPeriodInDays=90)

    rotation = kms.rotation()
    assert rotation.enabled


# What the page says


def documented():
    """Name, default and whether an URI takes it, of each line of the page's table."""
    line = re.compile(r"^\| `(\w+)` \| (.+?) \| (yes|no) \|", re.MULTILINE)
    return {name: (default, uri) for name, default, uri in line.findall(DOCUMENT.read_text())}


def test_page_lists_every_option_with_its_default():
    """One table, and it is true."""
    parameters = list(inspect.signature(AwsKms).parameters.values())

    told = documented()

    assert list(told) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        default, uri = told[parameter.name]
        words = {None: "none", (): "none", inspect.Parameter.empty: "required"}
        shown = words.get(parameter.default, f"`{parameter.default}`")
        assert default == shown, parameter.name
        assert uri == ("yes" if parameter.name in AWS_OPTIONS else "no"), parameter.name


def test_uri_takes_what_it_says(monkeypatch):
    """Numbers, switches and lists, not only text."""
    kms = kms_from_uri(
        f"aws-kms:///{MRK}?replica_regions=us-east-1,eu-west-1&read_timeout_seconds=0.5"
        "&max_attempts=1&use_fips=true&pool_connections=3&retry_mode=adaptive"
    )

    assert isinstance(kms, AwsKms)
    assert kms.worst_case_seconds == 3 * 1.5
    for wrong in ("max_attempts=canary", "use_fips=1", "read_timeout_seconds=canary"):
        with pytest.raises(ConfigurationError, match="is not written") as caught:
            kms_from_uri(f"aws-kms:///{MRK}?{wrong}")
        assert_holds_no_secret(caught.value)


def test_session_of_the_caller_is_used():
    """An application that has its own way to credentials keeps it."""
    own = boto3.session.Session("access", "secret", region_name="sa-east-1")

    kms = AwsKms("alias/x", session=own)

    assert kms._client._client().meta.region_name == "sa-east-1"


def test_describing_key_is_believed_of_the_right_key_only(stub):
    """Also where the id is a multi-Region one."""
    stub.answer = Answer({"KeyMetadata": {"KeyId": KEY_ID, "Arn": KEY_ARN}})

    with pytest.raises(KeyServiceError):
        stubbed(stub, "mrk-" + "0a" * 16, session=session()).resolve()
