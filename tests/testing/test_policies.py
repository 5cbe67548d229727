"""Who may do what: IAM policies and grants, evaluated as IAM does."""

import json
from typing import Any

import boto3
import pytest
from sqlalchemy import JSON, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.pool import StaticPool

from sqlalchemy_kmsenv import (
    ConfigurationError,
    Encrypted,
    Keyring,
    KeyServiceDeniedError,
    attach_keyrings,
)
from sqlalchemy_kmsenv.testing import aws_kms, client
from sqlalchemy_kmsenv.testing.conditions import parse_conditions
from tests.testing.conftest import ONCE, ManualClock, allow, code_of

AES: dict[str, Any] = {"KeySpec": "AES_256"}
DENIED = "AccessDeniedException"


@pytest.fixture
def blob(kms_server, kms_key):
    """A wrapped data key of device d1."""
    made = kms_server.call(
        "GenerateDataKey",
        KeyId=kms_key.arn,
        KeySpec="AES_256",
        EncryptionContext={"device_id": "d1"},
    )
    return made["CiphertextBlob"]


def test_a_writer_cannot_read(as_principal, kms_key, blob):
    """The tracker that reports positions needs none of them back."""
    writer = as_principal(allow("kms:GenerateDataKey", resource=kms_key.arn))

    assert code_of(writer.generate_data_key, KeyId="alias/kmsenv-test", **AES) is None
    assert (
        code_of(writer.decrypt, CiphertextBlob=blob, EncryptionContext={"device_id": "d1"})
        == DENIED
    )


def test_a_re_wrap_role_cannot_decrypt(as_principal, kms_key, blob):
    """The job that goes through every row never can see a value."""
    job = as_principal(allow("kms:ReEncrypt*", resource=kms_key.arn))
    context = {"device_id": "d1"}

    renewed = code_of(
        job.re_encrypt,
        CiphertextBlob=blob,
        SourceEncryptionContext=context,
        DestinationKeyId=kms_key.arn,
        DestinationEncryptionContext=context,
    )

    assert renewed is None
    assert code_of(job.decrypt, CiphertextBlob=blob, EncryptionContext=context) == DENIED
    assert code_of(job.generate_data_key, KeyId=kms_key.arn, **AES) == DENIED


@pytest.mark.parametrize("action", ["ReEncryptFrom", "ReEncryptTo"])
def test_re_encryption_needs_both_permissions(as_principal, kms_key, blob, action):
    """One of the two alone moves nothing."""
    half = as_principal(allow(f"kms:{action}"))

    code = code_of(
        half.re_encrypt,
        CiphertextBlob=blob,
        SourceEncryptionContext={"device_id": "d1"},
        DestinationKeyId=kms_key.arn,
    )

    assert code == DENIED


def test_re_encryption_can_be_kept_on_the_same_key(as_principal, kms_server, kms_key, blob):
    """kms:ReEncryptOnSameKey: a job that renews and moves nothing away."""
    job = as_principal(allow("kms:ReEncrypt*", Bool={"kms:ReEncryptOnSameKey": "true"}))
    other = kms_server.create_key()
    given = {"CiphertextBlob": blob, "SourceEncryptionContext": {"device_id": "d1"}}

    assert code_of(job.re_encrypt, DestinationKeyId=kms_key.arn, **given) is None
    assert code_of(job.re_encrypt, DestinationKeyId=other.arn, **given) == DENIED


def test_a_caller_limited_to_one_device_cannot_open_anothers_position(kms_server, kms_key):
    """End to end: scope column, encryption context, IAM condition."""

    class Base(DeclarativeBase):
        pass

    class Ping(Base):
        __tablename__ = "pings"
        id = mapped_column(String(10), primary_key=True)
        device_id = mapped_column(String(40), nullable=False)
        position = mapped_column(Encrypted(JSON, scope=["device_id"]))

    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    attach_keyrings(Base.metadata, default=Keyring(aws_kms(kms_server, kms_key.arn)))
    with Session(engine) as session:
        session.add_all(
            Ping(id=f"of-{device}", device_id=device, position={"lat": 1.5})
            for device in ("d1", "d2")
        )
        session.commit()
    owner = kms_server.create_principal(
        "owner-of-d1",
        allow(
            "kms:Decrypt",
            resource=kms_key.arn,
            StringEquals={
                "kms:EncryptionContext:device_id": "d1",
                "kms:EncryptionContext:kmsenv:table": "pings",
            },
        ),
    )
    kms = aws_kms(kms_server, kms_key.arn, owner)
    attach_keyrings(Base.metadata, default=Keyring(kms))

    with Session(engine) as session:
        own = session.scalars(select(Ping.position).where(Ping.id == "of-d1")).one()
        with pytest.raises(KeyServiceDeniedError) as caught:
            session.scalars(select(Ping.position).where(Ping.id == "of-d2")).one()

    assert own == {"lat": 1.5}
    assert caught.value.code == DENIED
    denied = kms_server.events[-1]
    assert (denied.principal, denied.context["device_id"]) == ("owner-of-d1", "d2")
    engine.dispose()


def test_for_all_values_in_an_allow_admits_requests_without_a_context(as_principal, kms_key):
    """A documented trap: of no value everything is true. Null closes it."""
    keys = {"kms:EncryptionContextKeys": ["device_id", "kmsenv:table"]}
    trapped = as_principal(allow("kms:GenerateDataKey", **{"ForAllValues:StringEquals": keys}))
    safe = as_principal(
        allow(
            "kms:GenerateDataKey",
            **{
                "ForAllValues:StringEquals": keys,
                "Null": {"kms:EncryptionContextKeys": "false"},
            },
        ),
        name="safe",
    )
    given = {"KeyId": kms_key.arn, **AES}

    assert code_of(trapped.generate_data_key, **given) is None
    assert code_of(safe.generate_data_key, **given) == DENIED
    for caller in (trapped, safe):
        inside = {"EncryptionContext": {"device_id": "d1"}}
        outside = {"EncryptionContext": {"device_id": "d1", "user": "u"}}
        assert code_of(caller.generate_data_key, **given, **inside) is None
        assert code_of(caller.generate_data_key, **given, **outside) == DENIED


def test_a_deny_goes_before_every_allow(as_principal, admin, kms_key):
    """Also before a grant."""
    deny = {
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": kms_key.arn},
        ]
    }
    caller = as_principal(deny)
    arn = "arn:aws:iam::111122223333:user/somebody"
    admin.create_grant(KeyId=kms_key.arn, GranteePrincipal=arn, Operations=["Decrypt"])
    blob = caller.generate_data_key(KeyId=kms_key.arn, **AES)["CiphertextBlob"]

    assert code_of(caller.decrypt, CiphertextBlob=blob) == DENIED


def test_who_may_not_use_a_key_does_not_learn_whether_it_exists(as_principal, kms_key):
    """A key id that is guessed."""
    nobody = as_principal()
    guessed = kms_key.arn.replace(kms_key.id, "11111111-2222-4333-8444-555555555555")

    assert code_of(nobody.describe_key, KeyId=guessed) == DENIED
    assert code_of(nobody.describe_key, KeyId=kms_key.arn) == DENIED


def test_changed_policies_count_at_once(as_principal, kms_key):
    """A role that is revoked while it is used."""
    caller = as_principal(allow("kms:DescribeKey"))
    before = code_of(caller.describe_key, KeyId=kms_key.arn)
    as_principal()

    assert (before, code_of(caller.describe_key, KeyId=kms_key.arn)) == (None, DENIED)


def test_an_unknown_access_key_is_nobody(kms_server, kms_key):
    """Not a denial by policy: the token itself is invalid."""
    session = boto3.session.Session("AKIAUNKNOWN", "secret", region_name=kms_server.region)
    stranger = session.client("kms", endpoint_url=kms_server.url, config=ONCE)

    assert code_of(stranger.describe_key, KeyId=kms_key.arn) == "UnrecognizedClientException"
    stranger.close()


@pytest.fixture
def grantee(as_principal):
    """A principal without policies, and its ARN."""
    return as_principal(name="grantee"), "arn:aws:iam::111122223333:user/grantee"


def test_a_grant_allows_what_it_names_until_it_is_revoked(admin, grantee, kms_key):
    """Permissions for one key, without a change of policies."""
    caller, arn = grantee
    given = {"KeyId": kms_key.arn, "GranteePrincipal": arn}
    grant = admin.create_grant(Operations=["GenerateDataKey"], **given)

    blob = caller.generate_data_key(KeyId=kms_key.arn, **AES)["CiphertextBlob"]
    assert code_of(caller.decrypt, CiphertextBlob=blob) == DENIED
    assert [g["GrantId"] for g in admin.list_grants(KeyId=kms_key.arn)["Grants"]] == [
        grant["GrantId"]
    ]
    admin.revoke_grant(KeyId=kms_key.arn, GrantId=grant["GrantId"])
    assert code_of(caller.generate_data_key, KeyId=kms_key.arn, **AES) == DENIED


@pytest.mark.parametrize(
    ("constraint", "admitted"),
    [
        ({"EncryptionContextSubset": {"device_id": "d1"}}, [True, True, False, False]),
        ({"EncryptionContextEquals": {"device_id": "d1"}}, [True, False, False, False]),
        ({"EncryptionContextEquals": {"DEVICE_ID": "d1"}}, [True, False, False, False]),
        ({"EncryptionContextEquals": {"device_id": "D1"}}, [False, False, False, False]),
    ],
)
def test_a_grant_is_limited_to_contexts(admin, grantee, kms_key, constraint, admitted):
    """Names without regard to case, values with it."""
    caller, arn = grantee
    admin.create_grant(
        KeyId=kms_key.arn,
        GranteePrincipal=arn,
        Operations=["GenerateDataKey"],
        Constraints=constraint,
    )
    contexts = [{"device_id": "d1"}, {"device_id": "d1", "a": "b"}, {"device_id": "d2"}, {}]

    codes = [
        code_of(caller.generate_data_key, KeyId=kms_key.arn, EncryptionContext=c, **AES)
        for c in contexts
    ]

    assert codes == [None if yes else DENIED for yes in admitted]


def test_a_grant_is_retired_by_whom_it_names(admin, grantee, kms_key):
    """The retiring principal needs no permission of its own."""
    caller, arn = grantee
    grant = admin.create_grant(
        KeyId=kms_key.arn, GranteePrincipal=arn, RetiringPrincipal=arn, Operations=["Decrypt"],
        Name="one",
    )  # fmt: skip
    again = admin.create_grant(
        KeyId=kms_key.arn, GranteePrincipal=arn, RetiringPrincipal=arn, Operations=["Decrypt"],
        Name="one",
    )  # fmt: skip
    caller.retire_grant(GrantToken=grant["GrantToken"])

    assert again["GrantId"] == grant["GrantId"]
    assert admin.list_grants(KeyId=kms_key.arn)["Grants"] == []
    assert code_of(caller.retire_grant, GrantToken="none") == "InvalidGrantTokenException"


def test_a_grant_token_counts_before_the_grant_is_known_everywhere():
    """Eventual consistency, and the way around it."""
    from sqlalchemy_kmsenv.testing import KmsServer

    clock = ManualClock()
    with KmsServer(clock=clock) as server:
        key, admin = server.create_key(), client(server, config=ONCE)
        somebody = server.create_principal("somebody")
        caller = client(server, somebody, config=ONCE)
        server.weather.lag(grants=5)
        token = admin.create_grant(
            KeyId=key.arn, GranteePrincipal=somebody.arn, Operations=["GenerateDataKey"]
        )["GrantToken"]
        given = {"KeyId": key.arn, **AES}

        assert code_of(caller.generate_data_key, **given) == DENIED
        assert code_of(caller.generate_data_key, **given, GrantTokens=[token]) is None
        assert (
            code_of(caller.generate_data_key, **given, GrantTokens=["x"])
            == "InvalidGrantTokenException"
        )
        clock.now += 5
        assert code_of(caller.generate_data_key, **given) is None
        caller.close()
        admin.close()


def holds(operator, wanted, *values):
    """Whether a condition is true of a request that has these values of a key."""
    several = operator.startswith("For")
    key = "kms:EncryptionContextKeys" if several else "kms:EncryptionContext:x"
    (condition,) = parse_conditions({operator: {key: wanted}}, "Statement")
    return condition.holds({key.lower(): values} if values else {})


@pytest.mark.parametrize(
    ("operator", "wanted", "values", "expected"),
    [
        ("StringEquals", ["a", "b"], ["b"], True),
        ("StringEquals", "a", ["A"], False),
        ("StringEquals", "a*", ["a*"], True),
        ("StringEquals", "a*", ["ab"], False),
        ("StringEquals", "a", [], False),
        ("StringEqualsIfExists", "a", [], True),
        ("StringEqualsIfExists", "a", ["b"], False),
        ("StringEqualsIgnoreCase", "a", ["A"], True),
        ("StringNotEquals", ["a", "b"], ["b"], False),
        ("StringNotEquals", ["a", "b"], ["c"], True),
        ("StringNotEquals", "a", [], True),
        ("StringNotLike", "a*", ["ab"], False),
        ("StringLike", "a?c*", ["abcdef"], True),
        ("StringLike", "a?c", ["abcd"], False),
        ("StringLike", "[a]", ["a"], False),
        ("StringLike", "a.c", ["abc"], False),
        ("StringLike", "*", ["line\nbreak"], True),
        ("ArnLike", "arn:aws:iam::*:user/b*", ["arn:aws:iam::1:user/bob"], True),
        ("ArnLike", "arn:aws:iam::*:b*", ["arn:aws:iam::1:a:b"], False),
        ("ArnEquals", "arn:*:bob:*:*:*", ["arn:aws:iam::1:user:bob:a"], False),
        ("ArnEquals", "arn:aws:iam::1:role:*", ["arn:aws:iam::1:role:a:b"], True),
        ("ArnNotLike", "arn:aws:iam::1:*", ["arn:aws:iam::2:user/bob"], True),
        ("ArnLike", "arn:*:*:*:*:*", ["bob"], False),
        ("Bool", True, ["true"], True),
        ("Bool", "false", ["true"], False),
        ("Null", "true", [], True),
        ("Null", "true", ["a"], False),
        ("Null", False, ["a"], True),
        ("Null", "false", [""], False),
        ("Null", "true", [""], True),
        ("StringEquals", "", [""], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a"], [], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c", "b"], True),
        ("ForAnyValue:StringEquals", ["a"], ["c"], False),
        ("ForAnyValue:StringEquals", ["a"], [], False),
        ("ForAnyValue:StringEqualsIfExists", ["a"], [], True),
        ("ForAnyValue:StringNotEquals", ["a"], ["a", "c"], True),
        ("ForAllValues:StringNotEquals", ["a"], ["a", "c"], False),
    ],
)
def test_operators_decide_as_in_the_iam_reference(operator, wanted, values, expected):
    """One wrong row here makes a test of permissions worthless."""
    assert holds(operator, wanted, *values) is expected


def test_pair_names_are_compared_without_case_in_conditions_and_key_lists_with_it(
    as_principal, kms_key
):
    """As IAM does; EncryptionContextKeys is how a policy insists on case."""
    loose = as_principal(
        allow("kms:*", StringEquals={"kms:EncryptionContext:Device_ID": "d1"}), name="loose"
    )
    exact = as_principal(
        allow("kms:*", **{"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "device_id"}}),
        name="exact",
    )
    given = {"KeyId": kms_key.arn, "EncryptionContext": {"DEVICE_id": "d1"}, **AES}

    assert code_of(loose.generate_data_key, **given) is None
    assert code_of(exact.generate_data_key, **given) == DENIED


def test_names_that_differ_by_case_must_all_have_an_admitted_value(as_principal, kms_key):
    """Or a second spelling would smuggle another device past the condition."""
    caller = as_principal(allow("kms:*", StringEquals={"kms:EncryptionContext:device_id": "d1"}))

    code = code_of(
        caller.generate_data_key,
        KeyId=kms_key.arn,
        EncryptionContext={"device_id": "d2", "Device_Id": "d1"},
        **AES,
    )

    assert code == DENIED


@pytest.mark.parametrize(
    ("condition", "by_alias", "by_arn"),
    [
        ({"StringEquals": {"kms:RequestAlias": "alias/kmsenv-test"}}, None, DENIED),
        ({"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/kmsenv-*"}}, None, None),
        ({"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}, None, None),
        ({"Bool": {"kms:MultiRegion": True}}, DENIED, DENIED),
        ({"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}, None, None),
        ({"StringEquals": {"kms:ViaService": "rds.eu-central-1.amazonaws.com"}}, DENIED, DENIED),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/some*"}}, None, None),
        ({"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}}, None, None),
    ],
)
def test_conditions_about_key_and_caller(as_principal, kms_key, condition, by_alias, by_arn):
    """The keys that a policy for this library may want."""
    caller = as_principal(allow("kms:*", **condition))

    codes = [
        code_of(caller.generate_data_key, KeyId=name, **AES)
        for name in ("alias/kmsenv-test", kms_key.arn)
    ]

    assert codes == [by_alias, by_arn]


def test_not_action_and_not_resource_except(as_principal, kms_server, kms_key):
    """The rarer half of the policy language."""
    other = kms_server.create_key()
    caller = as_principal(
        {
            "Statement": {
                "Effect": "Allow",
                "NotAction": ["KMS:decrypt"],
                "NotResource": [other.arn],
            }
        }
    )

    blob = caller.generate_data_key(KeyId=kms_key.arn, **AES)["CiphertextBlob"]
    assert code_of(caller.decrypt, CiphertextBlob=blob) == DENIED
    assert code_of(caller.generate_data_key, KeyId=other.arn, **AES) == DENIED


STATEMENT = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}


@pytest.mark.parametrize(
    "document",
    [
        "not json",
        [],
        {},
        {"Statement": ["text"]},
        {"Version": "2008", "Statement": STATEMENT},
        {"Statement": {**STATEMENT, "Principal": "*"}},
        {"Statement": {**STATEMENT, "Effect": "allow"}},
        {"Statement": {"Effect": "Allow", "Action": "kms:*"}},
        {"Statement": {**STATEMENT, "NotAction": "kms:Decrypt"}},
        {"Statement": {**STATEMENT, "Action": []}},
        {"Statement": {**STATEMENT, "Resource": "${aws:username}"}},
        {"Statement": {**STATEMENT, "Condition": {"NumericEquals": {"kms:KeySpec": "1"}}}},
        {"Statement": {**STATEMENT, "Condition": {"StringEquals": {"aws:SourceIp": "1"}}}},
        {"Statement": {**STATEMENT, "Condition": {"Null": {"kms:EncryptionContext:": "true"}}}},
        {"Statement": {**STATEMENT, "Condition": {"StringEquals": "x"}}},
        {"Statement": {**STATEMENT, "Condition": {"StringEquals": {"kms:KeySpec": []}}}},
        {
            "Statement": {
                **STATEMENT,
                "Condition": {"StringEquals": {"kms:EncryptionContextKeys": "a"}},
            }
        },
        {"Statement": {**STATEMENT, "Condition": {"ForSome:StringEquals": {"kms:KeySpec": "a"}}}},
        '{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Effect": "Allow"}}',
        {"Statement": {**STATEMENT, "Action": "Decrypt"}},
        {"Statement": {**STATEMENT, "Effect": "Deny", "Action": ["kms:*", "kms:Decript"]}},
        {"Statement": {**STATEMENT, "Action": "kms:ReEncrypt"}},
        {"Statement": {**STATEMENT, "Action": "k*:Decrypt"}},
        {"Statement": {**STATEMENT, "Resource": "key/1234"}},
        {"Statement": {**STATEMENT, "Resource": "arn:aws:kms:*90ab"}},
        {"Statement": []},
        {"Statement": [{**STATEMENT, "Sid": "A"}, {**STATEMENT, "Sid": "A"}]},
        {"Statement": {**STATEMENT, "Sid": "a b"}},
        {"Statement": {**STATEMENT, "Condition": {"Null": {"kms:KeySpec": "maybe"}}}},
        {"Statement": {**STATEMENT, "Condition": {"Null": {"kms:KeySpec": ["true", "false"]}}}},
        {"Statement": {**STATEMENT, "Condition": {"Bool": {"kms:MultiRegion": "yes"}}}},
        {"Statement": {**STATEMENT, "Condition": {"BoolIfExists": {"kms:MultiRegion": "1"}}}},
        {"Statement": {**STATEMENT, "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:*bob"}}}},
        {
            "Statement": {
                **STATEMENT,
                "Condition": {"ForAllValues:StringEquals": {"kms:EncryptionContext:a": "b"}},
            }
        },
        {
            "Statement": {
                **STATEMENT,
                "Condition": {"ForAllValues:Null": {"kms:EncryptionContextKeys": "true"}},
            }
        },
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_when_it_is_given(kms_server, document):
    """A condition that silently never holds passes tests for the wrong reason."""
    with pytest.raises(ConfigurationError, match="the policy is refused"):
        kms_server.create_principal("x", document)


@pytest.mark.parametrize(
    "change",
    [
        {"Action": "*"},
        {"Action": ["KMS:decrypt", "kms:ReEncryptFrom", "kms:ListKeyRotations", "s3:GetObject"]},
        {"Resource": "arn:aws:kms:*:111122223333:key/*"},
        {"NotResource": "arn:aws:s3:::bucket/a:b", "Resource": None},
        {"Sid": "Only1"},
        {"Condition": {"Null": {"kms:EncryptionContextKeys": "false"}}},
    ],
)
def test_what_iam_takes_is_taken(kms_server, change):
    """Strictness that refuses a policy in use would be as wrong."""
    statement = {name: part for name, part in {**STATEMENT, **change}.items() if part is not None}

    kms_server.create_principal("x", json.dumps({"Statement": [statement]}))


def test_the_root_principal_stays_what_it_is(kms_server):
    """Else the fixtures of everybody would be denied."""
    with pytest.raises(ConfigurationError):
        kms_server.create_principal("root", allow("kms:Decrypt"))
