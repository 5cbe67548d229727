"""Each policy, on a KMS that evaluates it: what is needed is allowed, and nothing else."""

import itertools
import json

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from sqlalchemy_kmsenv import KeyServiceDeniedError, attach_keyrings
from sqlalchemy_kmsenv.access import (
    INLINE_CHARACTERS,
    MANAGED_CHARACTERS,
    Role,
    column_contexts,
    policies,
    size_of,
)
from sqlalchemy_kmsenv.access.contexts import ColumnContext
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.rewrap import rewrap
from sqlalchemy_kmsenv.testing import clients
from tests.access.conftest import keyring_of, make_models
from tests.kms.test_aws import as_botocore_tells

TABLE, COLUMN = "kmsenv:table", "kmsenv:column"
PINGS, PEOPLE = "kmsenv_access_pings", "kmsenv_access_people"
OWN = {"app": "maps", "env": "prod"}
LEGAL = (
    {TABLE: PINGS, COLUMN: "position", "device_id": "d1", **OWN},
    {TABLE: PINGS, COLUMN: "battery", "device_id": "d2", **OWN},
    {TABLE: PINGS, COLUMN: "note", **OWN},
    {TABLE: PEOPLE, COLUMN: "name", "kmsenv:row": "i1", **OWN},
)
USES = {
    Role.WRITER: {"GenerateDataKey"},
    Role.READER: {"Decrypt"},
    Role.REWRAP: {"ReEncrypt", "DescribeKey"},
    Role.AUDITOR: {"DescribeKey", "GetKeyRotationStatus", "ListKeyRotations"},
}


def illegal():
    """Contexts that no value of the models has, each one step away from one that has."""
    yield {}
    yield {"app": "maps"}
    for context in LEGAL:
        for name in context:
            yield {key: value for key, value in context.items() if key != name}
            if name not in ("device_id", "kmsenv:row"):
                yield {**context, name: "other"}
                yield {**context, name: context[name].upper()}
        yield {**context, "extra": "pair"}
        yield {**context, "kmsenv:extra": ""}
        yield {name.upper() if name == "app" else name: text for name, text in context.items()}
    yield {TABLE: PEOPLE, COLUMN: "position", "device_id": "d1", **OWN}
    yield {TABLE: PINGS, COLUMN: "name", "kmsenv:row": "i1", **OWN}


def calls(client, root, key, context, blob=None):
    """Every operation that a policy could allow, with a wrapped data key that is real."""
    if blob is None:
        blob = root.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)[
            "CiphertextBlob"
        ]
    sealed = {"CiphertextBlob": blob, "KeyId": key, "EncryptionContext": context}
    moved = {
        "CiphertextBlob": blob,
        "SourceKeyId": key,
        "SourceEncryptionContext": context,
        "DestinationKeyId": key,
        "DestinationEncryptionContext": context,
    }
    made = {"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context}
    several = {
        "GenerateDataKey": lambda: client.generate_data_key(**made),
        "GenerateDataKeyWithoutPlaintext": lambda: client.generate_data_key_without_plaintext(
            **made
        ),
        "Encrypt": lambda: client.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context),
        "Decrypt": lambda: client.decrypt(**sealed),
        "ReEncrypt": lambda: client.re_encrypt(**moved),
        "DescribeKey": lambda: client.describe_key(KeyId=key),
        "GetKeyRotationStatus": lambda: client.get_key_rotation_status(KeyId=key),
        "ListKeyRotations": lambda: client.list_key_rotations(KeyId=key),
        "DisableKey": lambda: client.disable_key(KeyId=key),
        "ScheduleKeyDeletion": lambda: client.schedule_key_deletion(KeyId=key),
        "CreateGrant": lambda: client.create_grant(
            KeyId=key, GranteePrincipal="arn:aws:iam::111122223333:user/x", Operations=["Decrypt"]
        ),
    }
    # The oldest supported botocore does not know all of them.
    known = set(client.meta.service_model.operation_names)
    return {name: call for name, call in several.items() if name in known}


def allowed(several):
    """Which of the calls get through; any refusal but a denial is an error of the test."""
    done = set()
    for name, call in several.items():
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDeniedException":
                raise
        else:
            done.add(name)
    return done


def documents(models, role, keys=None, **options):
    """The policies of a role for all columns."""
    scope_values = options.pop("scope_values", None)
    contexts = column_contexts(models.bindings, scope_values)
    return policies(role, contexts, {"default": keys or [models.key.arn]}, **options)


@pytest.fixture
def principal(server, models):
    """A function that makes somebody with the policies of a role."""
    number = itertools.count()

    def make(role, **options):
        return server.create_principal(
            f"{role}-{next(number)}", *documents(models, role, **options)
        )

    return make


@pytest.mark.parametrize("role", Role)
def test_role_may_do_its_work_in_every_context_of_the_models(server, models, principal, role):
    """A permission that is missing shows itself at night."""
    client = clients.client(server, principal(role))
    root = clients.client(server)

    for context in LEGAL:
        tried = calls(client, root, models.key.arn, context)
        assert allowed(tried) == USES[role] & tried.keys(), context


@pytest.mark.parametrize("role", Role)
def test_role_may_do_nothing_in_any_other_context(server, models, principal, role):
    """One pair missing, one more, another value, another case: each is somebody else's data."""
    client = clients.client(server, principal(role))
    root = clients.client(server)
    free_of_context = {"DescribeKey", "GetKeyRotationStatus", "ListKeyRotations"}

    for context in illegal():
        tried = calls(client, root, models.key.arn, context)
        assert allowed(tried) == USES[role] & free_of_context & tried.keys(), context


@pytest.mark.parametrize("role", Role)
def test_role_may_do_nothing_with_another_key(server, models, principal, role):
    """The account has other keys, for other people."""
    other = server.create_key().arn
    client = clients.client(server, principal(role))

    for context in LEGAL:
        assert allowed(calls(client, clients.client(server), other, context)) == set()


def test_role_is_limited_to_the_scope_values_that_are_given(server, models, principal):
    """A caller for one device cannot open the positions of another."""
    reader = principal(Role.READER, scope_values={"device_id": ["d1"]})
    client, root = clients.client(server, reader), clients.client(server)

    done = [allowed(calls(client, root, models.key.arn, context)) for context in LEGAL]

    assert done == [{"Decrypt"}, set(), {"Decrypt"}, {"Decrypt"}]


def test_empty_scope_value_is_refused(server, models, principal):
    """AWS advises against empty values, and does not promise what Null makes of them."""
    context = {TABLE: PINGS, COLUMN: "position", "device_id": "", **OWN}

    root = clients.client(server)

    for role in (Role.WRITER, Role.READER, Role.REWRAP):
        client = clients.client(server, principal(role))
        assert allowed(calls(client, root, models.key.arn, context)) <= {"DescribeKey"}, role


def test_rewrap_role_moves_to_its_own_key_only(server, models, principal):
    """Else it could move data keys to one whose policy lets everybody decrypt."""
    other = server.create_key().arn
    client, root = clients.client(server, principal(Role.REWRAP)), clients.client(server)
    context = LEGAL[2]
    blob = root.generate_data_key(
        KeyId=models.key.arn, KeySpec="AES_256", EncryptionContext=context
    )["CiphertextBlob"]

    def move(**changes):
        return client.re_encrypt(
            **{
                "CiphertextBlob": blob,
                "SourceKeyId": models.key.arn,
                "SourceEncryptionContext": context,
                "DestinationKeyId": models.key.arn,
                "DestinationEncryptionContext": context,
                **changes,
            }
        )

    assert allowed({"same key": move}) == {"same key"}
    assert allowed({"other key": lambda: move(DestinationKeyId=other)}) == set()
    for illegitimate in illegal():
        change = {"DestinationEncryptionContext": illegitimate}
        assert allowed({"context": lambda change=change: move(**change)}) == set(), illegitimate


def test_rewrap_role_moves_between_scopes_unless_it_is_limited_to_one(server, models, principal):
    """The limit that the page about operating tells of, and the way around it."""
    own = {TABLE: PINGS, COLUMN: "position", "device_id": "d1", **OWN}
    other = {**own, "device_id": "d2"}
    key = models.key.arn
    blob = (
        clients.client(server)
        .generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=own)
        .get("CiphertextBlob")
    )

    def moves(role, target):
        client = clients.client(server, role)
        call = lambda: client.re_encrypt(  # noqa: E731  it is tried below
            CiphertextBlob=blob,
            SourceKeyId=key,
            SourceEncryptionContext=own,
            DestinationKeyId=key,
            DestinationEncryptionContext=target,
        )
        return bool(allowed({"ReEncrypt": call}))

    anything = principal(Role.REWRAP)
    one = principal(Role.REWRAP, scope_values={"device_id": ["d1"]})
    assert (moves(anything, own), moves(anything, other)) == (True, True)
    assert (moves(one, own), moves(one, other)) == (True, False)


def test_rewrap_role_moves_from_a_former_key_and_never_back(server, models, principal):
    """The key that wraps comes first."""
    former = server.create_key().arn
    role = principal(Role.REWRAP, keys=[models.key.arn, former])
    client, root = clients.client(server, role), clients.client(server)
    context = LEGAL[2]

    def move(source, target):
        blob = root.generate_data_key(KeyId=source, KeySpec="AES_256", EncryptionContext=context)[
            "CiphertextBlob"
        ]
        return lambda: client.re_encrypt(
            CiphertextBlob=blob,
            SourceKeyId=source,
            SourceEncryptionContext=context,
            DestinationKeyId=target,
            DestinationEncryptionContext=context,
        )

    here = models.key.arn
    tried = {"to": move(former, here), "same": move(here, here), "back": move(here, former)}
    assert allowed(tried) == {"to", "same"}


@pytest.fixture
def database():
    """SQLite alone: the permissions are the KMS's, whatever the database."""
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def acting_as(server, models, principal, **options):
    """The same models, with the credentials of somebody."""
    own = make_models()
    kms = clients.aws_kms(server, models.key.arn, principal, **options)
    attach_keyrings(own.Base.metadata, default=keyring_of(kms))
    return own


def test_writer_reader_and_rewrap_do_their_work_through_the_library(
    server, models, principal, database
):
    """The same policies, end to end: each can do its part, and not that of another."""
    writer = acting_as(server, models, principal(Role.WRITER))
    reader = acting_as(server, models, principal(Role.READER))
    mover = acting_as(server, models, principal(Role.REWRAP))
    models.Base.metadata.create_all(database)
    with Session(database) as session:
        session.add(writer.Ping(id=1, device_id="d1", position={"lat": 1}, battery=5, note="n"))
        session.add(writer.Person(id=1, name="canary"))
        session.commit()

    with Session(database) as session:
        assert session.scalars(select(reader.Ping)).one().position == {"lat": 1}
        assert session.scalars(select(reader.Person)).one().name == "canary"
        session.rollback()
        for other in (writer, mover):
            other.Base.metadata.info["sqlalchemy_kmsenv.keyrings"]["default"].forget()
            with pytest.raises(KeyServiceDeniedError):
                session.scalars(select(other.Person)).all()
        session.rollback()
        for other in (reader, mover):
            session.add(other.Person(id=2, name="x"))
            with pytest.raises(KeyServiceDeniedError):
                session.flush()
            session.rollback()
    models.key.rotate()
    report = rewrap(database, mover.Base.metadata)
    # A botocore that tells no key material leaves the key to decide: all are at the target.
    told = as_botocore_tells("material") is not None
    assert {column.counts.rewritten for column in report.columns} == {int(told)}
    with Session(database) as session:
        assert session.scalars(select(reader.Person)).one().name == "canary"


# What is printed


def test_policy_is_valid_json_of_the_current_version(models):
    """It is pasted as it is."""
    (document,) = documents(models, Role.READER)

    again = json.loads(json.dumps(document))

    assert again["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in again["Statement"]} == {"Allow"}


def test_columns_of_one_table_share_a_statement_and_tables_never_do(models):
    """Short where that is exact: position and battery differ in their name alone."""
    (document,) = documents(models, Role.READER)

    columns = [
        statement["Condition"]["StringEquals"]["kms:EncryptionContext:kmsenv:column"]
        for statement in document["Statement"]
    ]
    assert columns == [["position", "battery"], "note", "name"]


def test_describing_is_allowed_to_a_reader_by_alias(server, models):
    """Only where the keyring needs it."""
    (without,) = documents(models, Role.READER)
    (with_it,) = documents(models, Role.READER, describe=True)

    assert "kms:DescribeKey" not in json.dumps(without)
    assert with_it["Statement"][-1] == {
        "Effect": "Allow",
        "Action": "kms:DescribeKey",
        "Resource": models.key.arn,
    }


def test_a_writer_never_gets_describe_key(models):
    """It is of use to those who read alone, and each permission more is one too many."""
    for document in documents(models, Role.WRITER, describe=True):
        assert "kms:DescribeKey" not in str(document)


def many(tables):
    """The contexts of a model with so many tables."""
    return [
        ColumnContext("default", f"a_table_with_a_name_{n}", "column", (), (), ("tenant_id",))
        for n in range(tables)
    ]


def test_policy_of_many_tables_is_cut_where_iam_ends_it(models):
    """IAM refuses a longer one; together they allow what one would."""
    keys = {"default": [models.key.arn]}

    cut = policies(Role.READER, many(50), keys)
    (whole,) = policies(Role.READER, many(50), keys, limit=10**9)

    assert len(cut) > 1
    assert all(size_of(document) <= MANAGED_CHARACTERS for document in cut)
    assert [s for document in cut for s in document["Statement"]] == whole["Statement"]
    inline = policies(Role.READER, many(50), keys, limit=INLINE_CHARACTERS)
    assert len(inline) < len(cut)


def test_statement_that_no_policy_can_hold_is_refused(models):
    """It cannot be cut without saying less."""
    devices = [f"device-{n:08}" for n in range(600)]

    with pytest.raises(ConfigurationError, match="fewer scope values"):
        documents(models, Role.READER, scope_values={"device_id": devices})


def test_scope_value_is_written_as_the_context_has_it(models):
    """A condition on 007 would never hold."""
    with pytest.raises(ConfigurationError, match="is not a scope column; those are: device_id"):
        column_contexts(models.bindings, {"tenant": ["x"]})


def test_dollar_in_a_name_is_no_policy_variable():
    """``${aws:username}`` as the name of a table would open a door."""
    odd = ColumnContext("default", "a${aws:username}", "$", (), (), ())

    (document,) = policies(Role.READER, [odd], {"default": ["arn"]})

    equals = document["Statement"][0]["Condition"]["StringEquals"]
    assert equals["kms:EncryptionContext:kmsenv:table"] == "a${$}{aws:username}"
    assert equals["kms:EncryptionContext:kmsenv:column"] == "$"


def test_policy_without_columns_or_key_is_refused(models):
    """It would allow nothing, or everything."""
    with pytest.raises(ConfigurationError, match="no column"):
        policies(Role.READER, [], {"default": ["arn"]})
    with pytest.raises(ConfigurationError, match="keyring 'default'"):
        policies(Role.READER, column_contexts(models.bindings), {"other": ["arn"]})
