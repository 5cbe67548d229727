"""The AWS key service: real boto3 against an emulator, and against a server that misbehaves."""

import base64
import os
import socket
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceDeniedError,
    KeyServiceError,
    KeyServiceUnavailableError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
)
from sqlalchemy_kmsenv.kms import AwsKms, Kms
from sqlalchemy_kmsenv.kms.aws_errors import SERVICE_CODES
from tests.kms.aws_stub import Answer, KmsStub, error, session

REGION = "eu-central-1"
KEY_ID = "0d990263-018e-4e65-a703-eff731de951e"
KEY_ARN = f"arn:aws:kms:{REGION}:111122223333:key/{KEY_ID}"
OTHER_ARN = f"arn:aws:kms:{REGION}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MATERIAL_ID = "ab" * 32
CONTEXT = {"kmsenv:table": "pings", "user": "canary-of-the-context"}
PLAINTEXT = b"canary-of-the-plaintext-32-bytes"
WRAPPED = b"canary-of-the-wrapped-key"


def as_botocore_tells(material_id: str) -> str | None:
    """The id, or None where the installed botocore is older than the members that carry it."""
    model = boto3.Session().client("kms", region_name=REGION).meta.service_model
    answer = model.operation_model("GenerateDataKey").output_shape
    return material_id if answer is not None and "KeyMaterialId" in answer.members else None


def b64(content: bytes) -> str:
    """As in the JSON of an answer."""
    return base64.b64encode(content).decode()


def generated(**changes: Any) -> Answer:
    """An answer to GenerateDataKey and, as it happens, to Decrypt; None leaves a member out."""
    body = {
        "KeyId": KEY_ARN,
        "Plaintext": b64(PLAINTEXT),
        "CiphertextBlob": b64(WRAPPED),
        "KeyMaterialId": MATERIAL_ID,
    }
    return Answer({name: value for name, value in (body | changes).items() if value is not None})


def re_encrypted(**changes: Any) -> Answer:
    """An answer to ReEncrypt; None leaves a member out."""
    body = {
        "KeyId": KEY_ARN,
        "SourceKeyId": OTHER_ARN,
        "CiphertextBlob": b64(b"renewed"),
        "SourceKeyMaterialId": "00" * 32,
        "DestinationKeyMaterialId": MATERIAL_ID,
    }
    return Answer({name: value for name, value in (body | changes).items() if value is not None})


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """The URL of an emulated KMS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def admin(emulator):
    """A plain client, to do what an operator does."""
    return session().client("kms", endpoint_url=emulator)


@pytest.fixture
def emulated(emulator, admin) -> AwsKms:
    """A key of its own for the test."""
    arn = admin.create_key()["KeyMetadata"]["Arn"]
    return AwsKms(arn, endpoint_url=emulator, session=session())


def stubbed(stub: KmsStub, key_id: str = KEY_ARN, **options: Any) -> AwsKms:
    """A key behind ``stub``, without retries unless the test wants them."""
    defaults: dict[str, Any] = {"max_attempts": 1, "session": session(), "endpoint_url": stub.url}
    return AwsKms(key_id, **(defaults | options))


# Against an emulator of KMS


def test_data_key_comes_back_from_its_wrapped_form(emulated):
    """The one thing that a key service is for."""
    made = emulated.generate_data_key(CONTEXT)

    assert isinstance(emulated, Kms)
    assert isinstance(made.plaintext, bytearray)
    assert len(made.plaintext) == 32
    assert made.key_arn == emulated.resolve()
    assert emulated.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn) == made.plaintext


def test_another_context_does_not_unwrap(emulated):
    """The context is what ties a data key to its column."""
    made = emulated.generate_data_key(CONTEXT)

    with pytest.raises(WrongCellError):
        emulated.unwrap(made.wrapped, {**CONTEXT, "user": "other"}, key_arn=made.key_arn)


def test_alias_resolves_to_the_arn_of_its_key(emulated, emulator, admin):
    """What is stored names the key: an alias may move tomorrow."""
    arn = emulated.resolve()
    admin.create_alias(AliasName="alias/app/location", TargetKeyId=arn)
    by_alias = AwsKms("alias/app/location", endpoint_url=emulator, session=session())

    assert by_alias.resolve() == arn
    assert by_alias.generate_data_key(CONTEXT).key_arn == arn


def test_rewrap_moves_the_data_key_to_this_key_and_context(emulated, emulator, admin):
    """The way off a key that is to be retired."""
    made = emulated.generate_data_key(CONTEXT)
    target = AwsKms(
        admin.create_key()["KeyMetadata"]["KeyId"],
        region=REGION,
        endpoint_url=emulator,
        session=session(),
    )

    moved = target.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn, new_context={"a": "b"})

    assert moved.key_arn == target.resolve() != made.key_arn
    assert target.unwrap(moved.wrapped, {"a": "b"}, key_arn=moved.key_arn) == made.plaintext


def test_key_that_does_not_exist_is_a_matter_of_its_state(emulator):
    """A deleted key: whoever runs the keys has to act."""
    kms = AwsKms(KEY_ARN, endpoint_url=emulator, session=session())

    with pytest.raises(KeyStateError) as caught:
        kms.generate_data_key(CONTEXT)

    assert caught.value.code == "NotFoundException"


# What is sent


def test_unwrapping_pins_key_and_algorithm(stub):
    """Without a KeyId, Decrypt uses whatever key the stored bytes name."""
    stub.answer = Answer({"KeyId": OTHER_ARN, "Plaintext": b64(PLAINTEXT)})

    stubbed(stub, grant_tokens=["t"]).unwrap(WRAPPED, CONTEXT, key_arn=OTHER_ARN)

    assert [(r.operation, r.body) for r in stub.requests] == [
        (
            "Decrypt",
            {
                "CiphertextBlob": b64(WRAPPED),
                "KeyId": OTHER_ARN,
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "EncryptionContext": CONTEXT,
                "GrantTokens": ["t"],
            },
        )
    ]


def test_generating_sends_key_context_and_grants(stub):
    """IAM conditions see exactly what is sent."""
    stub.answer = generated()

    made = stubbed(stub, "alias/x", grant_tokens=["t"]).generate_data_key(CONTEXT)

    assert made.material_id == as_botocore_tells(MATERIAL_ID)
    assert stub.requests[0].body == {
        "KeyId": "alias/x",
        "KeySpec": "AES_256",
        "EncryptionContext": CONTEXT,
        "GrantTokens": ["t"],
    }


def test_rewrapping_pins_the_source_and_sends_both_contexts(stub):
    """One call, in which the data key never leaves the service."""
    stub.answer = re_encrypted()

    moved = stubbed(stub).rewrap(WRAPPED, CONTEXT, key_arn=OTHER_ARN, new_context={"a": "b"})

    assert (moved.wrapped, moved.key_arn) == (b"renewed", KEY_ARN)
    assert moved.material_id == as_botocore_tells(MATERIAL_ID)
    assert stub.requests[0].body == {
        "CiphertextBlob": b64(WRAPPED),
        "SourceKeyId": OTHER_ARN,
        "SourceEncryptionContext": CONTEXT,
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "DestinationKeyId": KEY_ARN,
        "DestinationEncryptionContext": {"a": "b"},
        "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "GrantTokens": [],
    }


def test_rewrapping_keeps_the_context_unless_told(stub):
    """Re-wrapping for a newer material changes nothing else."""
    stub.answer = re_encrypted()

    stubbed(stub).rewrap(WRAPPED, CONTEXT, key_arn=OTHER_ARN)

    assert stub.requests[0].body["DestinationEncryptionContext"] == CONTEXT


def test_key_arn_resolves_without_a_call(stub):
    """No kms:DescribeKey has to be granted for it."""
    assert stubbed(stub).resolve() == KEY_ARN
    assert stub.requests == []


def test_alias_is_described_once_by_however_many_threads(stub):
    """DescribeKey has the lowest quota of the four."""
    stub.answer = Answer({"KeyMetadata": {"KeyId": KEY_ID, "Arn": KEY_ARN}}, delay_seconds=0.05)
    kms = stubbed(stub, "alias/x")

    with ThreadPoolExecutor(8) as threads:
        arns = set(threads.map(lambda _: kms.resolve(), range(8)))

    assert arns == {KEY_ARN}
    assert [request.operation for request in stub.requests] == ["DescribeKey"]


def test_threads_share_the_wait_for_a_silent_service(stub):
    """One after the other, the last of them would wait eight times as long as it was told."""
    stub.answer = Answer(delay_seconds=1)
    kms = stubbed(stub, "alias/x", read_timeout_seconds=0.5)

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(kms.resolve) for _ in range(8)]

    assert {type(one.exception()) for one in waiting} == {KeyServiceUnavailableError}
    assert len(stub.requests) == 1
    # What failed is not kept.
    stub.answer = Answer({"KeyMetadata": {"KeyId": KEY_ID, "Arn": KEY_ARN}})
    assert kms.resolve() == KEY_ARN


def test_moved_alias_is_noticed_at_the_next_data_key(stub):
    """What resolve tells must be the key that wraps now."""
    kms = stubbed(stub, "alias/x")
    for arn in (KEY_ARN, OTHER_ARN):
        stub.answer = generated(KeyId=arn)
        kms.generate_data_key(CONTEXT)
        assert kms.resolve() == arn

    assert len(stub.requests) == 2


def test_threads_share_one_client(stub):
    """Making one costs a hundred times a call, and boto3 cannot do it in parallel."""
    stub.answer = generated()
    kms = stubbed(stub)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: kms.generate_data_key(CONTEXT), range(40)))

    assert {one.key_arn for one in made} == {KEY_ARN}
    # A client more would mean connections of its own, besides one a thread.
    assert len({request.client_port for request in stub.requests}) <= 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_opens_a_connection_of_its_own(stub):
    """Two processes that share a connection read each other's data keys."""
    stub.answer = generated()
    kms = stubbed(stub)
    kms.generate_data_key(CONTEXT)

    child = os.fork()
    if child == 0:
        os._exit(0 if kms.generate_data_key(CONTEXT).plaintext == PLAINTEXT else 1)
    _, status = os.waitpid(child, 0)
    kms.generate_data_key(CONTEXT)

    before, inside, after = (request.client_port for request in stub.requests)
    assert status == 0
    assert before == after != inside


# What is believed of an answer


@pytest.mark.parametrize("material_id", [None, "", "not hexadecimal", "AB" * 32])
def test_unknown_key_material_is_none(stub, material_id):
    """Older services and emulators leave it out, or have their own idea of it."""
    stub.answer = generated(KeyMaterialId=material_id)

    assert stubbed(stub).generate_data_key(CONTEXT).material_id is None


@pytest.mark.parametrize(
    "changes",
    [
        {"KeyId": OTHER_ARN},
        {"KeyId": KEY_ID},
        {"KeyId": None},
        {"Plaintext": b64(PLAINTEXT[:16])},
        {"Plaintext": b64(PLAINTEXT + b"x")},
        {"Plaintext": None},
        {"Plaintext": "not base64"},
    ],
)
def test_answer_for_another_key_or_of_another_length_is_not_used(stub, changes):
    """Whatever sits behind the endpoint, a data key of a key that was not asked is refused."""
    kms = stubbed(stub)
    stub.answer = generated(**changes)

    for use in (
        lambda: kms.generate_data_key(CONTEXT),
        lambda: kms.unwrap(WRAPPED, CONTEXT, key_arn=KEY_ARN),
    ):
        with pytest.raises(KeyServiceError) as caught:
            use()
        assert type(caught.value) is KeyServiceError
        assert_holds_no_secret(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda kms: kms.generate_data_key(CONTEXT),
        lambda kms: kms.unwrap(WRAPPED, CONTEXT, key_arn=KEY_ARN),
    ],
)
def test_no_frame_of_a_refusal_holds_the_data_key(stub, use):
    """Error reporters send the variables of every frame to somebody else."""
    stub.answer = generated(KeyId=OTHER_ARN)

    with pytest.raises(KeyServiceError) as caught:
        use(stubbed(stub))

    assert caught.value.request_id == "request-7"
    ours = [
        frame.f_locals
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_globals["__name__"].startswith("sqlalchemy_kmsenv.")
    ]
    assert len(ours) >= 2
    for variables in ours:
        assert PLAINTEXT.decode() not in repr(variables)


@pytest.mark.parametrize("answer", [generated(CiphertextBlob=None), Answer(b"<html>"), Answer()])
def test_data_key_without_its_wrapped_form_is_not_used(stub, answer):
    """A value sealed under it could never be opened again."""
    stub.answer = answer

    with pytest.raises(KeyServiceError):
        stubbed(stub).generate_data_key(CONTEXT)


@pytest.mark.parametrize(
    "changes", [{"SourceKeyId": KEY_ARN}, {"KeyId": OTHER_ARN}, {"CiphertextBlob": None}]
)
def test_rewrapped_key_of_another_key_is_not_used(stub, changes):
    """It would be stored in place of one that works."""
    stub.answer = re_encrypted(**changes)

    with pytest.raises(KeyServiceError):
        stubbed(stub).rewrap(WRAPPED, CONTEXT, key_arn=OTHER_ARN)


@pytest.mark.parametrize("body", [{}, {"KeyMetadata": {"Arn": OTHER_ARN}}])
def test_description_of_another_key_is_not_used(stub, body):
    """Its ARN would be pinned from then on."""
    stub.answer = Answer(body)

    with pytest.raises(KeyServiceError):
        stubbed(stub, KEY_ID).resolve()


@pytest.mark.parametrize("length", [0, 6145])
def test_wrapped_key_of_impossible_length_is_refused_without_a_call(stub, length):
    """KMS answers a validation error, but the fault is in the stored value."""
    with pytest.raises(WrongCellError):
        stubbed(stub).unwrap(b"x" * length, CONTEXT, key_arn=KEY_ARN)

    assert stub.requests == []


# Failures


EXPECTED = {
    "AccessDeniedException": KeyServiceDeniedError,
    "ExpiredTokenException": KeyServiceDeniedError,
    "InvalidGrantTokenException": KeyServiceDeniedError,
    "UnrecognizedClientException": KeyServiceDeniedError,
    "ThrottlingException": KeyServiceUnavailableError,
    "DependencyTimeoutException": KeyServiceUnavailableError,
    "KMSInternalException": KeyServiceUnavailableError,
    "KeyUnavailableException": KeyServiceUnavailableError,
    "InternalFailure": KeyServiceUnavailableError,
    "ServiceUnavailable": KeyServiceUnavailableError,
    "DisabledException": KeyStateError,
    "KMSInvalidStateException": KeyStateError,
    "NotFoundException": KeyStateError,
    "InvalidCiphertextException": WrongCellError,
    "IncorrectKeyException": WrongCellError,
    "ValidationException": ConfigurationError,
    "InvalidArnException": ConfigurationError,
    "InvalidKeyUsageException": ConfigurationError,
    # Quotas of resources: no retry cures them.
    "LimitExceededException": KeyServiceError,
    "DryRunOperationException": KeyServiceError,
    "NeverHeardOfException": KeyServiceError,
}


def assert_holds_no_secret(caught: BaseException) -> None:
    """Neither the error nor its causes show context values, plaintext or wrapped keys."""
    link: BaseException | None = caught
    while link is not None:
        shown = f"{link} {link!r} {vars(link)}"
        for secret in ("canary", b64(PLAINTEXT), b64(WRAPPED)):
            assert secret not in shown
        link = link.__cause__


@pytest.mark.parametrize(("code", "kind"), {**SERVICE_CODES, **EXPECTED}.items())
def test_error_code_decides_who_has_to_act(stub, code, kind):
    """Retry, fix the policy, fix the key, fix the code, or suspect the data."""
    stub.answer = error(code)

    with pytest.raises(KmsEnvError) as caught:
        stubbed(stub).unwrap(WRAPPED, CONTEXT, key_arn=KEY_ARN)

    assert type(caught.value) is kind
    for part in ("Decrypt", KEY_ARN, code, "request-7"):
        assert part in str(caught.value)
    assert isinstance(caught.value.__cause__, ClientError)
    assert_holds_no_secret(caught.value)
    assert caught.value.request_id == "request-7"
    if isinstance(caught.value, KeyServiceError):
        facts = (caught.value.operation, caught.value.code, caught.value.request_id)
        assert facts == ("Decrypt", code, "request-7")


def test_what_to_do_is_said_whole(stub):
    """AWS does not tell a damaged data key from one of another context, so both are named."""
    stub.answer = error("InvalidCiphertextException")
    with pytest.raises(WrongCellError) as caught:
        stubbed(stub).unwrap(WRAPPED, CONTEXT, key_arn=KEY_ARN)
    assert str(caught.value).endswith(
        ": the data key was not wrapped by that key under this encryption context, or it is"
        " damaged: look whether the stored value was altered or moved"
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, KeyServiceError),
        (401, KeyServiceDeniedError),
        (403, KeyServiceDeniedError),
        (429, KeyServiceUnavailableError),
        (500, KeyServiceUnavailableError),
        (503, KeyServiceUnavailableError),
        (599, KeyServiceUnavailableError),
    ],
)
def test_http_status_decides_where_the_code_is_unknown(stub, status, kind):
    """A proxy in between knows no codes of AWS."""
    stub.answer = Answer(b"<html>no</html>", status)

    with pytest.raises(KmsEnvError) as caught:
        stubbed(stub).generate_data_key(CONTEXT)

    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "use",
    [
        lambda kms: kms.rewrap(WRAPPED, CONTEXT, key_arn=KEY_ARN),
        lambda kms: kms.describe(),
    ],
)
def test_answer_that_is_not_used_is_named_by_its_request(stub, use):
    """The audit record of the refusal leads to CloudTrail's."""
    with pytest.raises(KeyServiceError) as caught:
        use(stubbed(stub))

    assert caught.value.request_id == "request-7"


def test_every_operation_reports_its_own_name(stub):
    """Which permission is missing depends on it."""
    stub.answer = error("AccessDeniedException")
    kms = stubbed(stub, "alias/x")

    for operation, use in {
        "DescribeKey": kms.resolve,
        "GenerateDataKey": lambda: kms.generate_data_key(CONTEXT),
        "ReEncrypt": lambda: kms.rewrap(WRAPPED, CONTEXT, key_arn=KEY_ARN),
    }.items():
        with pytest.raises(KeyServiceDeniedError) as caught:
            use()
        assert caught.value.operation == operation


def test_slow_service_is_given_up(stub):
    """A transaction waits for it, with locks held."""
    stub.answer = generated()
    stub.answer.delay_seconds = 2
    kms = stubbed(stub, read_timeout_seconds=0.1)

    with pytest.raises(KeyServiceUnavailableError) as caught:
        kms.generate_data_key(CONTEXT)

    # The answer would have come, and would have been taken.
    assert caught.value.code == "ReadTimeoutError"


def test_unreachable_service_may_be_tried_again():
    """A deployment or a network hiccup."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kms = AwsKms(
        KEY_ARN, endpoint_url=f"http://127.0.0.1:{port}", session=session(), max_attempts=1
    )

    with pytest.raises(KeyServiceUnavailableError) as caught:
        kms.generate_data_key(CONTEXT)

    assert caught.value.code == "EndpointConnectionError"


@pytest.mark.parametrize("retry_mode", ["standard", "adaptive"])
def test_attempts_are_counted_with_the_first(stub, retry_mode):
    """The longest wait follows from it."""
    stub.answer = error("KMSInternalException", 500)

    with pytest.raises(KeyServiceUnavailableError):
        stubbed(stub, max_attempts=2, retry_mode=retry_mode).generate_data_key(CONTEXT)

    assert len(stub.requests) == 2


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidCiphertextException"])
def test_final_errors_are_not_tried_again(stub, code):
    """Each try is priced, logged and waited for."""
    stub.answer = error(code)

    with pytest.raises(KmsEnvError):
        stubbed(stub, max_attempts=3).unwrap(WRAPPED, CONTEXT, key_arn=KEY_ARN)

    assert len(stub.requests) == 1


def test_missing_credentials_are_a_denial(stub):
    """Found at the first call, before anything is sent."""
    kms = stubbed(stub, session=boto3.session.Session(region_name=REGION))

    with pytest.raises(KeyServiceDeniedError) as caught:
        kms.generate_data_key(CONTEXT)

    assert caught.value.code == "NoCredentialsError"
    assert stub.requests == []


def test_missing_region_is_a_matter_of_configuration(stub):
    """An alias says nothing about where it is."""
    kms = stubbed(stub, "alias/x", session=boto3.session.Session("testing", "testing"))

    with pytest.raises(ConfigurationError, match="NoRegionError"):
        kms.generate_data_key(CONTEXT)


def test_unknown_profile_is_a_matter_of_configuration(monkeypatch):
    """It comes from the environment, at the first call."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(ConfigurationError, match="ProfileNotFound"):
        AwsKms(KEY_ARN).generate_data_key(CONTEXT)


@pytest.mark.parametrize("context", [{"user": 5}, {"user": b"canary"}, {"user": "canary\ud800"}])
def test_context_that_is_no_text_is_refused_without_its_value(stub, context):
    """boto3's own refusal would print it."""
    with pytest.raises(ConfigurationError) as caught:
        stubbed(stub).generate_data_key(context)

    assert_holds_no_secret(caught.value)
    assert stub.requests == []


# Arguments


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        " ",
        "alias/",
        "alias/x y",
        " alias/x",
        "alias/x\n",
        "location",
        KEY_ID[:-1],
        "mrk-12",
        f"key/{KEY_ID}",
        f"arn:aws:s3:{REGION}:111122223333:key/{KEY_ID}",
        f"arn:aws:kms::111122223333:key/{KEY_ID}",
        f"arn:aws:kms:{REGION}:1111:key/{KEY_ID}",
        f"{KEY_ARN}/x",
    ],
)
def test_malformed_key_id_is_refused_at_once(key_id):
    """Not at the first insert."""
    with pytest.raises(ConfigurationError, match="names no AWS KMS key"):
        AwsKms(key_id)


@pytest.mark.parametrize(
    ("key_id", "region"),
    [
        (KEY_ARN, REGION),
        (f"arn:aws:kms:{REGION}:111122223333:alias/x", REGION),
        (f"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/{KEY_ID}", "us-gov-west-1"),
        (f"arn:aws:kms:us-east-1:111122223333:key/mrk-{'0a' * 16}", "us-east-1"),
        (KEY_ID, None),
        (f"mrk-{'0a' * 16}", None),
        ("alias/aws/secretsmanager", None),
    ],
)
def test_region_comes_from_the_arn(key_id, region):
    """Saying it twice is a chance to contradict oneself."""
    assert f"region={region!r}" in repr(AwsKms(key_id))


def test_region_that_contradicts_the_arn_is_refused():
    """The call would go to a Region where the key is not."""
    with pytest.raises(ConfigurationError, match="us-east-1"):
        AwsKms(KEY_ARN, region="us-east-1")


@pytest.mark.parametrize(
    "options",
    [
        {"retry_mode": "legacy"},
        {"max_attempts": 0},
        {"read_timeout_seconds": 0},
        {"connect_timeout_seconds": float("inf")},
        {"grant_tokens": "token"},
        {"grant_tokens": ["t"] * 11},
        {"endpoint_url": "localhost:4566"},
        {"endpoint_url": "https://"},
        {"endpoint_url": "https://host:port"},
        {"endpoint_url": "https://user:canary@host"},
    ],
)
def test_senseless_option_is_refused_at_once(options):
    """Not at the first insert, and without showing a password."""
    with pytest.raises(ConfigurationError, match=next(iter(options))) as caught:
        AwsKms(KEY_ARN, **options)

    assert_holds_no_secret(caught.value)


def test_region_that_is_none_is_a_matter_of_configuration():
    """boto3 finds it out at the first call."""
    with pytest.raises(ConfigurationError, match="InvalidRegionError"):
        AwsKms("alias/x", region="no region!", session=session()).resolve()


def test_repr_shows_no_credentials(stub):
    """Representations end up in logs."""
    kms = AwsKms(KEY_ARN, endpoint_url=stub.url, session=session(), grant_tokens=["canary"])

    assert repr(kms) == f"AwsKms({KEY_ARN!r}, region={REGION!r}, endpoint_url={stub.url!r})"
