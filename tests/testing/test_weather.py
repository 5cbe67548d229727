"""Faults, delays, quotas and late knowledge: what happens, and that it happens again."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing import Fault, KmsServer, client
from tests.testing.conftest import ONCE, ManualClock, code_of

AES: dict[str, Any] = {"KeySpec": "AES_256"}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttling", "ThrottlingException"),
        ("internal", "KMSInternalException"),
        ("key-unavailable", "KeyUnavailableException"),
        ("dependency-timeout", "DependencyTimeoutException"),
    ],
)
def test_a_fault_is_answered_with_its_code(admin, kms_server, kms_key, kind, code):
    """As often as was asked for, and for that operation alone."""
    kms_server.weather.fault(kind, "DescribeKey", times=2)

    codes = [code_of(admin.describe_key, KeyId=kms_key.arn) for _ in range(3)]

    assert codes == [code, code, None]
    assert code_of(admin.list_keys) is None
    assert [event.code for event in kms_server.events[:3]] == codes


def test_a_request_may_never_be_answered(kms_server, kms_key):
    """The client's own time-out is what ends it."""
    kms_server.weather.fault(Fault.TIMEOUT, "describe_key", times=1)
    impatient = client(
        kms_server, config=Config(retries={"total_max_attempts": 1}, read_timeout=0.1)
    )

    with pytest.raises(ReadTimeoutError):
        impatient.describe_key(KeyId=kms_key.arn)

    assert impatient.describe_key(KeyId=kms_key.arn)
    impatient.close()


@pytest.mark.parametrize(("kind", "made"), [("reset", 0), ("lost-answer", 1)])
def test_a_reset_connection_leaves_the_work_undone_or_done(admin, kms_server, kind, made):
    """Whether anything happened is what a client cannot know."""
    kms_server.weather.fault(kind, "CreateKey", times=1)

    with pytest.raises(ConnectionClosedError):
        admin.create_key()

    assert kms_server.events[-1].code == kind
    assert len(admin.list_keys()["Keys"]) == made


def test_the_clients_own_retries_get_through(kms_server, kms_key):
    """Real boto3, real backoff: each try is a call of its own."""
    kms_server.weather.fault("throttling", "GenerateDataKey", times=1)
    patient = client(
        kms_server, config=Config(retries={"mode": "standard", "total_max_attempts": 2})
    )

    with kms_server.expect(generate_data_key=2):
        assert patient.generate_data_key(KeyId=kms_key.arn, **AES)
    patient.close()


def luck(seed, number=60):
    """What a tenth of throttling does to some requests in a row."""
    with KmsServer(seed=seed) as server:
        key, made = server.create_key(), client(server, config=ONCE)
        server.weather.fault("throttling", "DescribeKey", probability=0.3)
        server.weather.fault("internal", probability=0.2)
        codes = [code_of(made.describe_key, KeyId=key.arn) for _ in range(number)]
        made.close()
        return codes


def test_chance_is_repeatable():
    """A failure that was seen once can be looked at again."""
    first = luck(seed=7)

    assert first == luck(seed=7)
    assert first != luck(seed=8)
    assert set(first) == {None, "ThrottlingException", "KMSInternalException"}


def test_chance_does_not_depend_on_other_operations_or_threads():
    """The n-th request of an operation fares the same in whatever company."""

    def outcomes(server, company):
        key, made = server.create_key(), client(server, config=ONCE)
        server.weather.fault("throttling", "GenerateDataKey", probability=0.5)
        with ThreadPoolExecutor(4) as threads:
            noise = [threads.submit(made.describe_key, KeyId=key.arn) for _ in range(company)]
            codes = [code_of(made.generate_data_key, KeyId=key.arn, **AES) for _ in range(20)]
            for one in noise:
                one.result()
        made.close()
        return codes

    with KmsServer(seed=3) as alone, KmsServer(seed=3) as crowded:
        assert outcomes(alone, 0) == outcomes(crowded, 40)


def test_a_quota_throttles_beyond_its_rate_and_refills():
    """Shared by the operations that it names, as on AWS by all of an account."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, made = server.create_key(), client(server, config=ONCE)
        server.weather.quota(3, "GenerateDataKey", "Encrypt")

        def codes(number):
            return [code_of(made.generate_data_key, KeyId=key.arn, **AES) for _ in range(number)]

        assert codes(4) == [None, None, None, "ThrottlingException"]
        assert code_of(made.encrypt, KeyId=key.arn, Plaintext=b"x") == "ThrottlingException"
        assert code_of(made.describe_key, KeyId=key.arn) is None
        clock.now += 1
        assert codes(4) == [None, None, None, "ThrottlingException"]
        clock.now += 60
        assert codes(4) == [None, None, None, "ThrottlingException"]
        made.close()


def test_a_delay_is_waited_for(admin, kms_server, kms_key):
    """At least the fixed part; jitter comes on top."""
    kms_server.weather.delay(0.05, "DescribeKey", jitter_seconds=0.01)
    began = time.monotonic()

    admin.describe_key(KeyId=kms_key.arn)

    assert time.monotonic() - began >= 0.05


def test_an_alias_that_moved_is_seen_late():
    """Eventual consistency: for a while GenerateDataKey still uses the key of before."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        old, new = server.create_key(alias="alias/x"), server.create_key()
        clock.now += 60
        made = client(server, config=ONCE)
        server.weather.lag(aliases=5)
        made.update_alias(AliasName="alias/x", TargetKeyId=new.id)
        made.create_alias(AliasName="alias/y", TargetKeyId=new.id)

        def used(name):
            return made.generate_data_key(KeyId=name, **AES)["KeyId"]

        assert used("alias/x") == old.arn
        assert code_of(made.describe_key, KeyId="alias/y") == "NotFoundException"
        clock.now += 5
        assert used("alias/x") == used("alias/y") == new.arn
        made.close()


def test_a_key_that_was_disabled_works_a_little_longer():
    """And one that was just made is not found yet."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, made = server.create_key(), client(server, config=ONCE)
        clock.now += 60
        server.weather.lag(keys=5)
        given = {"KeyId": key.arn, **AES}
        made.disable_key(KeyId=key.arn)
        fresh = made.create_key()["KeyMetadata"]["Arn"]

        assert code_of(made.generate_data_key, **given) is None
        assert code_of(made.describe_key, KeyId=fresh) == "NotFoundException"
        clock.now += 5
        assert code_of(made.generate_data_key, **given) == "DisabledException"
        assert code_of(made.describe_key, KeyId=fresh) is None
        made.close()


def test_fine_weather_comes_back(admin, kms_server, kms_key):
    """One test can show the fault and the recovery."""
    kms_server.weather.fault("internal")
    kms_server.weather.quota(1)
    before = code_of(admin.describe_key, KeyId=kms_key.arn)
    kms_server.weather.clear()

    after = {code_of(admin.describe_key, KeyId=kms_key.arn) for _ in range(5)}

    assert (before, after) == ("KMSInternalException", {None})


@pytest.mark.parametrize(
    "make",
    [
        lambda weather: weather.fault("snow"),
        lambda weather: weather.fault("internal", "Snow"),
        lambda weather: weather.fault("internal", probability=1.5),
        lambda weather: weather.delay(-1),
        lambda weather: weather.delay(1, "Snow"),
        lambda weather: weather.quota(0),
        lambda weather: weather.quota(1, "Snow"),
    ],
)
def test_impossible_weather_is_refused(kms_server, make):
    """A misspelt fault that never happens would make every test pass."""
    with pytest.raises(ConfigurationError):
        make(kms_server.weather)


def test_closing_ends_requests_that_wait(kms_key, kms_server):
    """No test run hangs on a server that was told never to answer."""
    kms_server.weather.fault("timeout")
    with ThreadPoolExecutor(2) as threads:
        made = client(kms_server, config=Config(retries={"total_max_attempts": 1}))
        waiting = threads.submit(made.describe_key, KeyId=kms_key.arn)
        while not kms_server.events:
            time.sleep(0.005)
        kms_server.close()
        with pytest.raises(ConnectionClosedError):
            waiting.result(timeout=10)
        made.close()
