"""Each operation over real boto3, as the API reference says that KMS behaves."""

import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing import KmsServer, client, service_model
from sqlalchemy_kmsenv.testing.names import method_name
from sqlalchemy_kmsenv.testing.operations import OPERATIONS
from sqlalchemy_kmsenv.testing.store import SECONDS_A_DAY
from tests.testing.conftest import ONCE, ManualClock, code_of

CONTEXT = {"kmsenv:table": "pings", "device_id": "d1"}
AES: dict[str, Any] = {"KeySpec": "AES_256"}

_DECRYPT: Any = service_model.service_model().operation_model("Decrypt").input_shape
NEWEST_MODEL = "DryRunModifiers" in _DECRYPT.members
needs_newest_model = pytest.mark.skipif(
    not NEWEST_MODEL, reason="this botocore knows neither on-demand rotation nor key material ids"
)


def test_a_data_key_comes_back_under_its_context(admin, kms_key):
    """The one thing that a KMS is for, with the sizes and names that AWS has."""
    made = admin.generate_data_key(KeyId="alias/kmsenv-test", EncryptionContext=CONTEXT, **AES)
    opened = admin.decrypt(
        CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT, KeyId=kms_key.arn
    )

    assert len(made["CiphertextBlob"]) == 184
    assert made["KeyId"] == opened["KeyId"] == kms_key.arn
    assert opened["Plaintext"] == made["Plaintext"]


@pytest.mark.parametrize("size", [1, 16, 1024])
def test_a_data_key_has_the_length_that_was_asked_for(admin, kms_key, size):
    """NumberOfBytes is the other way to ask; the overhead is the same."""
    made = admin.generate_data_key(KeyId=kms_key.id, NumberOfBytes=size)

    assert len(made["Plaintext"]) == size
    assert len(made["CiphertextBlob"]) == 152 + size


def test_a_data_key_without_plaintext_opens_later(admin, kms_key):
    """For whoever may make keys and not use them."""
    made = admin.generate_data_key_without_plaintext(KeyId=kms_key.arn, **AES)

    assert "Plaintext" not in made
    assert len(admin.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"]) == 32


def test_a_value_is_encrypted_and_decrypted(admin, kms_key):
    """Encrypt has its blobs in common with the data keys."""
    blob = admin.encrypt(KeyId=kms_key.arn, Plaintext=b"x" * 4096, EncryptionContext=CONTEXT)

    opened = admin.decrypt(CiphertextBlob=blob["CiphertextBlob"], EncryptionContext=CONTEXT)

    assert opened["Plaintext"] == b"x" * 4096
    assert opened["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"


def test_every_flipped_bit_makes_a_blob_invalid(kms_server, kms_key):
    """An emulator that opens a damaged blob hides the bug that it should show."""
    made = kms_server.call("GenerateDataKey", KeyId=kms_key.arn, KeySpec="AES_256")
    blob = made["CiphertextBlob"]
    codes = set()
    for position in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[position // 8] ^= 1 << position % 8
        codes |= {refusal_code(kms_server, damaged, KeyId=kms_key.arn)}
        codes |= {refusal_code(kms_server, damaged)}

    assert codes == {"InvalidCiphertextException"}


def refusal_code(server, blob, **parameters):
    """The code with which Decrypt refuses, without HTTP."""
    from sqlalchemy_kmsenv.testing import Refusal

    try:
        server.call("Decrypt", CiphertextBlob=bytes(blob), **parameters)
    except Refusal as refusal:
        return refusal.code
    return None


def test_every_truncation_makes_a_blob_invalid(kms_server, kms_key):
    """Likewise, and longer ones too."""
    made = kms_server.call("GenerateDataKey", KeyId=kms_key.arn, KeySpec="AES_256")
    blob = made["CiphertextBlob"]
    lengths = [blob[:length] for length in range(len(blob))] + [blob + b"\0"]

    codes = {refusal_code(kms_server, short, KeyId=kms_key.arn) for short in lengths}

    assert codes == {"InvalidCiphertextException"}


PAIRS = st.dictionaries(st.text(st.sampled_from("ab=|,\0é"), min_size=0, max_size=3), st.text(
    st.sampled_from("ab=|,\0é"), max_size=3), max_size=3)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(made=PAIRS, asked=PAIRS)
def test_only_an_equal_context_opens(kms_server, kms_key, made, asked):
    """Separators in names and values must not make two contexts one."""
    key = kms_server.call(
        "GenerateDataKey", KeyId=kms_key.arn, KeySpec="AES_256", EncryptionContext=made
    )

    code = refusal_code(kms_server, key["CiphertextBlob"], EncryptionContext=asked)

    assert code == (None if made == asked else "InvalidCiphertextException")


def test_a_pinned_foreign_key_is_incorrect(admin, kms_server, kms_key):
    """Neither AccessDenied nor success, as other emulators answer."""
    other = kms_server.create_key()
    made = admin.generate_data_key(KeyId=kms_key.arn, **AES)
    blob = {"CiphertextBlob": made["CiphertextBlob"]}

    assert code_of(admin.decrypt, KeyId=other.arn, **blob) == "IncorrectKeyException"
    assert (
        code_of(admin.re_encrypt, SourceKeyId=other.arn, DestinationKeyId=kms_key.arn, **blob)
        == "IncorrectKeyException"
    )


def test_re_encryption_changes_key_and_context_and_not_the_data_key(admin, kms_server, kms_key):
    """The way off a key that is to be retired."""
    other = kms_server.create_key()
    made = admin.generate_data_key(KeyId=kms_key.arn, EncryptionContext=CONTEXT, **AES)
    moved = admin.re_encrypt(
        CiphertextBlob=made["CiphertextBlob"],
        SourceEncryptionContext=CONTEXT,
        DestinationKeyId=other.arn,
        DestinationEncryptionContext={"a": "b"},
    )

    opened = admin.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"a": "b"})

    assert (moved["SourceKeyId"], moved["KeyId"]) == (kms_key.arn, other.arn)
    assert opened["Plaintext"] == made["Plaintext"]


@needs_newest_model
def test_rotation_wraps_anew_and_still_opens_what_is_old(admin, kms_key):
    """Key material ids tell which is which, in every answer that has them."""
    old = admin.generate_data_key(KeyId=kms_key.arn, **AES)
    admin.rotate_key_on_demand(KeyId=kms_key.arn)
    new = admin.generate_data_key(KeyId=kms_key.arn, **AES)
    opened = admin.decrypt(CiphertextBlob=old["CiphertextBlob"])
    moved = admin.re_encrypt(CiphertextBlob=old["CiphertextBlob"], DestinationKeyId=kms_key.arn)
    described = admin.describe_key(KeyId=kms_key.arn)["KeyMetadata"]
    listed = admin.list_key_rotations(KeyId=kms_key.arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")

    first, second = old["KeyMaterialId"], new["KeyMaterialId"]
    assert first != second
    assert opened["KeyMaterialId"] == first
    assert (moved["SourceKeyMaterialId"], moved["DestinationKeyMaterialId"]) == (first, second)
    assert described["CurrentKeyMaterialId"] == second
    assert [r["KeyMaterialId"] for r in listed["Rotations"]] == [first, second]
    assert [r["KeyMaterialState"] for r in listed["Rotations"]] == ["NON_CURRENT", "CURRENT"]
    assert kms_key.material_ids == (first, second)


@needs_newest_model
def test_on_demand_rotations_are_limited(admin, kms_key):
    """A limit of resources, which no retry cures."""
    for _ in range(25):
        admin.rotate_key_on_demand(KeyId=kms_key.arn)

    assert code_of(admin.rotate_key_on_demand, KeyId=kms_key.arn) == "LimitExceededException"
    assert len(admin.list_key_rotations(KeyId=kms_key.arn)["Rotations"]) == 25


@needs_newest_model
def test_a_second_rotation_meanwhile_is_a_conflict():
    """On AWS a rotation takes a while, and the status says since when."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, admin = server.create_key(), client(server, config=ONCE)
        server.weather.slow_rotation(60)
        admin.rotate_key_on_demand(KeyId=key.arn)

        assert code_of(admin.rotate_key_on_demand, KeyId=key.arn) == "ConflictException"
        assert "OnDemandRotationStartDate" in admin.get_key_rotation_status(KeyId=key.arn)
        assert len(key.material_ids) == 1
        clock.now += 60
        assert "OnDemandRotationStartDate" not in admin.get_key_rotation_status(KeyId=key.arn)
        assert len(key.material_ids) == 2
        admin.close()


def test_scheduled_rotation_comes_with_time_and_stops_while_disabled():
    """A test of a re-wrap job can let years go by."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, admin = server.create_key(), client(server, config=ONCE)
        admin.enable_key_rotation(KeyId=key.arn)
        status = admin.get_key_rotation_status(KeyId=key.arn)

        clock.now += 2 * 365 * SECONDS_A_DAY
        assert len(key.material_ids) == 3
        key.disable()
        clock.now += 365 * SECONDS_A_DAY
        assert len(key.material_ids) == 3
        key.enable()
        assert len(key.material_ids) == 4
        admin.disable_key_rotation(KeyId=key.arn)
        assert admin.get_key_rotation_status(KeyId=key.arn)["KeyRotationEnabled"] is False
        assert status["KeyRotationEnabled"] is True
        admin.close()


def test_a_disabled_key_does_nothing(admin, kms_key):
    """Other emulators decrypt under it."""
    blob = admin.generate_data_key(KeyId=kms_key.arn, **AES)["CiphertextBlob"]
    kms_key.disable()

    uses = [
        (admin.generate_data_key, {"KeyId": kms_key.arn, **AES}),
        (admin.encrypt, {"KeyId": kms_key.arn, "Plaintext": b"x"}),
        (admin.decrypt, {"CiphertextBlob": blob}),
        (admin.re_encrypt, {"CiphertextBlob": blob, "DestinationKeyId": kms_key.arn}),
        (admin.enable_key_rotation, {"KeyId": kms_key.arn}),
    ]
    assert {code_of(use, **given) for use, given in uses} == {"DisabledException"}
    assert admin.describe_key(KeyId=kms_key.arn)["KeyMetadata"]["Enabled"] is False
    admin.enable_key(KeyId=kms_key.arn)
    assert code_of(admin.decrypt, CiphertextBlob=blob) is None


def test_a_key_that_is_pending_deletion_is_in_the_wrong_state():
    """And gone when its time has come, with its aliases."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, admin = server.create_key(alias="alias/x"), client(server, config=ONCE)
        answer = admin.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)

        assert [answer["KeyState"], key.state] == ["PendingDeletion"] * 2
        for use in (admin.disable_key, admin.enable_key, admin.schedule_key_deletion):
            assert code_of(use, KeyId=key.arn) == "KMSInvalidStateException"
        assert code_of(admin.generate_data_key, KeyId=key.arn, **AES) == "KMSInvalidStateException"
        key.cancel_deletion()
        assert key.state == "Disabled"
        assert code_of(admin.cancel_key_deletion, KeyId=key.arn) == "KMSInvalidStateException"
        key.schedule_deletion(7)
        clock.now += 7 * SECONDS_A_DAY
        assert code_of(admin.describe_key, KeyId=key.arn) == "NotFoundException"
        assert code_of(admin.describe_key, KeyId="alias/x") == "NotFoundException"
        admin.close()


@pytest.mark.parametrize("days", [1, 6, 31])
def test_a_waiting_period_outside_of_7_to_30_days_is_refused(admin, kms_key, days):
    """The model says 1 to 365; the service does not."""
    code = code_of(admin.schedule_key_deletion, KeyId=kms_key.arn, PendingWindowInDays=days)

    assert code == "ValidationException"


def test_aliases_are_made_moved_listed_and_deleted(admin, kms_server, kms_key):
    """An alias that moves is how keys are replaced."""
    other = kms_server.create_key()
    admin.create_alias(AliasName="alias/a/b", TargetKeyId=kms_key.id)

    again = code_of(admin.create_alias, AliasName="alias/a/b", TargetKeyId=other.id)
    admin.update_alias(AliasName="alias/a/b", TargetKeyId=other.arn)
    listed = admin.list_aliases(KeyId=other.arn)["Aliases"]
    by_arn = admin.generate_data_key(KeyId=listed[0]["AliasArn"], **AES)
    admin.delete_alias(AliasName="alias/a/b")

    assert again == "AlreadyExistsException"
    assert [a["AliasName"] for a in listed] == ["alias/a/b"]
    assert by_arn["KeyId"] == other.arn
    assert code_of(admin.describe_key, KeyId="alias/a/b") == "NotFoundException"
    assert len(admin.list_aliases()["Aliases"]) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("no-prefix", "ValidationException"),
        ("alias/aws/mine", "NotAuthorizedException"),
        ("alias/sp ace", "ValidationException"),
        ("", "ValidationException"),
    ],
)
def test_impossible_alias_names_are_refused(admin, kms_key, name, code):
    """As AWS refuses them."""
    assert code_of(admin.create_alias, AliasName=name, TargetKeyId=kms_key.id) == code


@pytest.mark.parametrize(
    ("key_id", "code"),
    [
        ("11111111-2222-4333-8444-555555555555", "NotFoundException"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/kmsenv-test", "NotFoundException"),
        (
            "arn:aws:kms:eu-central-1:999999999999:key/11111111-2222-4333-8444-555555555555",
            "NotFoundException",
        ),
        ("alias/none", "NotFoundException"),
        ("nonsense", "NotFoundException"),
        ("arn:aws:s3:::bucket", "InvalidArnException"),
        ("arn:aws:kms:eu-central-1:111122223333:other/x", "InvalidArnException"),
        ("", "ValidationException"),
    ],
)
def test_a_key_that_is_not_there_is_not_found(admin, kms_key, key_id, code):
    """The same code for whatever could have been a key."""
    assert code_of(admin.describe_key, KeyId=key_id) == code


def test_long_lists_come_in_pages(admin, kms_server):
    """A client that reads the first page only shall notice."""
    arns = {kms_server.create_key().arn for _ in range(5)}

    pages = list(admin.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))

    assert [len(page["Keys"]) for page in pages] == [2, 2, 1]
    assert {key["KeyArn"] for page in pages for key in page["Keys"]} == arns
    assert code_of(admin.list_keys, Marker="mine") == "InvalidMarkerException"


def test_macs_are_made_and_verified(admin, kms_server, kms_key):
    """A wrong one is an error, never a false."""
    key = kms_server.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    given = {"KeyId": key.arn, "MacAlgorithm": "HMAC_SHA_256", "Message": b"m"}
    mac = admin.generate_mac(**given)["Mac"]

    assert admin.verify_mac(Mac=mac, **given)["MacValid"] is True
    assert code_of(admin.verify_mac, Mac=mac[::-1], **given) == "KMSInvalidMacException"
    assert code_of(admin.generate_mac, **{**given, "MacAlgorithm": "HMAC_SHA_512"}) == (
        "InvalidKeyUsageException"
    )
    assert code_of(admin.generate_mac, **{**given, "KeyId": kms_key.arn}) == (
        "InvalidKeyUsageException"
    )
    assert code_of(admin.encrypt, KeyId=key.arn, Plaintext=b"x") == "InvalidKeyUsageException"
    assert code_of(admin.enable_key_rotation, KeyId=key.arn) == "UnsupportedOperationException"


def test_replicas_share_material_and_open_each_others_blobs(kms_server):
    """Related multi-Region keys: one id, several ARNs, one secret."""
    primary = kms_server.create_key(MultiRegion=True)
    replica = primary.replicate("eu-west-1")
    here, there = client(kms_server), client(kms_server, region="eu-west-1", config=ONCE)
    made = here.generate_data_key(KeyId=primary.arn, **AES)

    opened = there.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId=replica.arn)
    described = there.describe_key(KeyId=replica.id)["KeyMetadata"]
    primary.rotate()

    assert primary.id == replica.id
    assert opened["Plaintext"] == made["Plaintext"]
    assert opened["KeyId"] == replica.arn
    assert described["MultiRegionConfiguration"]["PrimaryKey"]["Arn"] == primary.arn
    assert replica.material_ids == primary.material_ids
    assert code_of(there.enable_key_rotation, KeyId=replica.arn) == "UnsupportedOperationException"
    assert code_of(there.describe_key, KeyId=primary.arn) == "NotFoundException"
    replica.disable()
    assert primary.state == "Enabled"
    here.close()
    there.close()


def test_a_key_of_one_region_is_unknown_in_another(kms_server, kms_key, admin):
    """A blob that reached the wrong Region."""
    there = client(kms_server, region="eu-west-1", config=ONCE)
    made = admin.generate_data_key(KeyId=kms_key.arn, **AES)

    code = code_of(there.decrypt, CiphertextBlob=made["CiphertextBlob"])

    assert code == "InvalidCiphertextException"
    assert code_of(there.describe_key, KeyId=kms_key.id) == "NotFoundException"
    there.close()


def test_a_primary_key_waits_for_its_replicas_to_be_deleted():
    """PendingReplicaDeletion: its own waiting period has not begun."""
    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        primary = server.create_key(MultiRegion=True)
        replica = primary.replicate("eu-west-1")
        primary.schedule_deletion(7)
        assert primary.state == "PendingReplicaDeletion"
        replica.schedule_deletion(7)
        clock.now += 7 * SECONDS_A_DAY
        assert primary.state == "PendingDeletion"


def test_a_dry_run_answers_as_if_and_does_nothing(admin, kms_server, kms_key):
    """A preflight without side effects; what would fail fails with its own code."""
    blob = admin.generate_data_key(KeyId=kms_key.arn, **AES)["CiphertextBlob"]
    dry = {"DryRun": True}
    allowed = "DryRunOperationException"

    assert code_of(admin.generate_data_key, KeyId=kms_key.arn, **AES, **dry) == allowed
    assert code_of(admin.decrypt, CiphertextBlob=blob, **dry) == allowed
    assert (
        code_of(admin.re_encrypt, CiphertextBlob=blob, DestinationKeyId=kms_key.arn, **dry)
        == allowed
    )
    assert code_of(admin.decrypt, CiphertextBlob=b"x" * 184, **dry) == "InvalidCiphertextException"
    kms_key.disable()
    assert code_of(admin.decrypt, CiphertextBlob=blob, **dry) == "DisabledException"


@needs_newest_model
def test_a_dry_run_can_do_without_a_ciphertext(admin, kms_key):
    """Permission alone, for a role that has no blob at hand."""
    ignoring = {"DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}

    assert code_of(admin.decrypt, KeyId=kms_key.arn, **ignoring) == "DryRunOperationException"
    assert (
        code_of(admin.re_encrypt, SourceKeyId=kms_key.arn, DestinationKeyId=kms_key.arn, **ignoring)
        == "DryRunOperationException"
    )
    assert code_of(admin.decrypt, **ignoring) == "ValidationException"
    assert (
        code_of(admin.decrypt, KeyId=kms_key.arn, DryRunModifiers=["IGNORE_CIPHERTEXT"])
        == "ValidationException"
    )
    assert code_of(admin.decrypt, KeyId=kms_key.arn) == "ValidationException"


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("generate_data_key", {}),
        ("generate_data_key", {"KeySpec": "AES_512"}),
        ("generate_data_key", {"NumberOfBytes": 0}),
        ("generate_data_key", {"NumberOfBytes": 1025}),
        ("generate_data_key", {"KeySpec": "AES_256", "NumberOfBytes": 32}),
        ("encrypt", {"Plaintext": b""}),
        ("encrypt", {"Plaintext": b"x" * 4097}),
        ("encrypt", {}),
        ("decrypt", {"CiphertextBlob": b"x" * 6145}),
        ("decrypt", {"CiphertextBlob": b"x", "GrantTokens": ["t"] * 11}),
        ("enable_key_rotation", {"RotationPeriodInDays": 89}),
    ],
)
def test_parameters_are_checked_against_the_api_model(admin, kms_key, method, parameters):
    """What AWS would refuse must not pass a test here."""
    if "RotationPeriodInDays" in parameters and not NEWEST_MODEL:
        pytest.skip("this botocore does not know the parameter")
    code = code_of(getattr(admin, method), KeyId=kms_key.arn, **parameters)

    assert code == "ValidationException"


def test_what_is_known_and_not_built_is_unsupported(admin, kms_key):
    """An honest no, and never a 500."""
    assert code_of(admin.generate_random, NumberOfBytes=1) == "UnsupportedOperationException"
    assert code_of(admin.create_key, KeySpec="RSA_2048") == "UnsupportedOperationException"
    assert code_of(admin.create_key, KeySpec="HMAC_256") == "ValidationException"
    assert code_of(admin.create_key, Policy="{}") == "UnsupportedOperationException"
    assert code_of(admin.put_key_policy, KeyId=kms_key.arn, Policy="{}") == (
        "UnsupportedOperationException"
    )


def test_errors_have_the_status_of_the_api_model(admin, kms_server, kms_key):
    """Botocore decides about retries by code and status."""
    with pytest.raises(admin.exceptions.NotFoundException) as missing:
        admin.describe_key(KeyId="alias/none")
    kms_server.weather.fault("internal")
    with pytest.raises(admin.exceptions.KMSInternalException) as internal:
        admin.describe_key(KeyId=kms_key.arn)

    assert missing.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert internal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert missing.value.response["ResponseMetadata"]["RequestId"]


def test_calls_are_counted_and_expected(admin, kms_server, kms_key):
    """KMS calls are a budget; a test says how many an action makes."""
    with kms_server.expect(generate_data_key=2):
        for _ in range(2):
            admin.generate_data_key(KeyId=kms_key.arn, **AES)

    with (
        pytest.raises(AssertionError, match="describe_key: expected 0, seen 1"),
        kms_server.expect(),
    ):
        admin.describe_key(KeyId=kms_key.arn)
    with pytest.raises(ConfigurationError), kms_server.expect(unwrap=1):
        pass
    assert kms_server.calls == {"generate_data_key": 2, "describe_key": 1}


def test_the_journal_names_who_used_what_and_holds_no_secret(admin, kms_server, kms_key):
    """What CloudTrail would say, by the request id that the client got."""
    made = admin.generate_data_key(KeyId=kms_key.arn, EncryptionContext=CONTEXT, **AES)
    event = kms_server.events[-1]

    assert event.request_id == made["ResponseMetadata"]["RequestId"]
    assert (event.operation, event.principal, event.key) == ("GenerateDataKey", "root", kms_key.arn)
    assert event.context == CONTEXT
    assert repr(made["Plaintext"])[2:-1] not in repr(event)


def test_everything_is_kept_over_a_restart(tmp_path):
    """A development server may be stopped in the evening."""
    with KmsServer(directory=tmp_path / "kms") as server:
        key = server.create_key(alias="alias/x", MultiRegion=True)
        key.rotate()
        replica = key.replicate("eu-west-1")
        server.create_principal("reader", {"Statement": {"Effect": "Allow", "Action": "kms:Decrypt",
                                                         "Resource": "*"}})  # fmt: skip
        made = server.call("GenerateDataKey", KeyId=key.arn, KeySpec="AES_256")
        kept = key.material_ids

    with KmsServer(directory=tmp_path / "kms") as server:
        opened = server.call("Decrypt", CiphertextBlob=made["CiphertextBlob"], KeyId="alias/x")
        again = server.call("DescribeKey", KeyId=replica.arn, region="eu-west-1")
        reader = client(server, server.principals["reader"], config=ONCE)
        assert opened["Plaintext"] == made["Plaintext"]
        assert again["KeyMetadata"]["CurrentKeyMaterialId"] == kept[-1]
        assert code_of(reader.decrypt, CiphertextBlob=made["CiphertextBlob"]) is None
        assert code_of(reader.describe_key, KeyId=key.arn) == "AccessDeniedException"
        reader.close()
    assert (tmp_path / "kms" / "kms.json").stat().st_mode & 0o777 == 0o600


def test_a_foreign_file_is_no_store(tmp_path):
    """And its content is in no message."""
    (tmp_path / "kms.json").write_text('{"secret": "canary"}')

    with pytest.raises(ConfigurationError) as caught:
        KmsServer(directory=tmp_path)

    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_an_operation_is_one_of_the_api_and_has_a_boto3_method(operation, admin):
    """A misspelt entry of the table could never be called."""
    if operation not in service_model.operations():
        pytest.skip("this botocore does not know the operation")

    assert inspect.ismethod(getattr(admin, method_name(operation)))


@needs_newest_model
def test_answers_hold_what_the_api_model_has_and_nothing_else(kms_server):
    """A misspelt member would be dropped by every client."""
    key = kms_server.create_key(alias="alias/x", MultiRegion=True)
    mac_key = kms_server.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    one = {"KeyId": key.arn}
    mac = {"KeyId": mac_key.arn, "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
    blob = kms_server.call("Encrypt", Plaintext=b"x", **one)["CiphertextBlob"]
    code = kms_server.call("GenerateMac", **mac)["Mac"]
    grantee = {"GranteePrincipal": "arn:aws:iam::111122223333:user/x", "Operations": ["Decrypt"]}
    calls = {
        "CreateKey": {}, "CreateGrant": {**one, **grantee}, "Decrypt": {"CiphertextBlob": blob},
        "DescribeKey": one, "Encrypt": {**one, "Plaintext": b"x"},
        "GenerateDataKey": {**one, **AES}, "GenerateDataKeyWithoutPlaintext": {**one, **AES},
        "GenerateMac": mac, "GetKeyRotationStatus": one, "ListAliases": {}, "ListGrants": one,
        "ListKeyRotations": one, "ListKeys": {}, "VerifyMac": {**mac, "Mac": code},
        "ReEncrypt": {"CiphertextBlob": blob, "DestinationKeyId": key.arn},
        "ReplicateKey": {**one, "ReplicaRegion": "eu-west-1"}, "RotateKeyOnDemand": one,
        "ScheduleKeyDeletion": {"KeyId": mac_key.arn}, "CancelKeyDeletion": {"KeyId": mac_key.arn},
    }  # fmt: skip
    for operation, parameters in calls.items():
        answer = kms_server.call(operation, **parameters)
        missing = {
            name
            for name in service_model.output_members(operation)
            if name.endswith("MaterialId") and name not in answer
        }
        assert answer.keys() <= service_model.output_members(operation), operation
        assert not missing, operation


def test_two_servers_do_not_share_a_directory(tmp_path):
    """Each would replace the file by what it knows, and key material of the other would be lost."""
    with KmsServer(directory=tmp_path) as server:
        key = server.create_key()
        with pytest.raises(ConfigurationError, match="in use by another server"):
            KmsServer(directory=tmp_path)

    with KmsServer(directory=tmp_path) as again:
        assert client(again).describe_key(KeyId=key.arn)["KeyMetadata"]["Arn"] == key.arn
