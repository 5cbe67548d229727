"""Each question of the doctor, answered yes and answered no."""

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.session import Session as BotocoreSession
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import OperationalError

from sqlalchemy_kmsenv import AwsKms, CachePolicy, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.access import Check, Role, column_contexts, examine, policies
from sqlalchemy_kmsenv.access.clocks import CACHE, CLOCK, STEADY, clock_check
from sqlalchemy_kmsenv.access.doctor import ENVELOPES
from sqlalchemy_kmsenv.access.keys import (
    CREDENTIALS,
    DESCRIBED,
    ENABLED,
    REACHABLE,
    ROTATION,
    SYMMETRIC,
)
from sqlalchemy_kmsenv.access.permissions import MAY_MAKE, MAY_REWRAP, MAY_UNWRAP
from sqlalchemy_kmsenv.access.schema import NOT_NULL, WIDE_ENOUGH
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing import Fault, KmsServer, clients
from tests.access.conftest import keyring_of, make_models
from tests.conftest import on

CANARY = "canary-of-a-value"
_MODEL = BotocoreSession().get_service_model("kms")
_DECRYPT: Any = _MODEL.operation_model("Decrypt").input_shape
_ROTATION: Any = _MODEL.operation_model("GetKeyRotationStatus").output_shape
DRY_RUN_WITHOUT_BLOB = "DryRunModifiers" in _DECRYPT.members
UNASKABLE = set() if DRY_RUN_WITHOUT_BLOB else {MAY_UNWRAP}
"""What the oldest botocore cannot ask where no envelope is stored yet: so the answer is no."""


@pytest.fixture
def world(engine, server):
    """The tables with a row each, under a rotating key, and a function that examines them."""
    models = make_models()
    key = server.create_key()
    server.call("EnableKeyRotation", KeyId=key.arn, RotationPeriodInDays=180)
    attach_keyrings(models.Base.metadata, keyring_of(clients.aws_kms(server, key.arn)))
    models.Base.metadata.drop_all(engine)
    models.Base.metadata.create_all(engine)
    ping = {"id": 1, "device_id": "d1", "position": {"lat": 1}, "battery": 1, "note": CANARY}
    with engine.begin() as connection:
        connection.execute(insert(models.Ping), [ping])
        connection.execute(insert(models.Person), [{"id": 1, "name": CANARY}])

    def of(kms=None, **options):
        if kms is not None:
            attach_keyrings(models.Base.metadata, keyring_of(kms))
        return list(examine(engine, models.bindings, **options))

    yield SimpleNamespace(models=models, key=key, engine=engine, server=server, examine=of)
    server.weather.clear()
    models.Base.metadata.drop_all(engine)


def noes(checks: list[Check]) -> set[str]:
    """The questions that are answered with no."""
    return {check.question for check in checks if not check.passed}


def words(checks: list[Check]) -> str:
    """Everything that is shown."""
    return "\n".join(f"{check.to_dict()}" for check in checks)


def test_everything_is_yes_where_everything_is_there(world):
    """And it says so for each column, not only for some."""
    checks = world.examine(roles=Role)

    assert noes(checks) == set()
    asked = {check.question for check in checks}
    assert asked == {
        CREDENTIALS,
        REACHABLE,
        ENABLED,
        SYMMETRIC,
        ROTATION,
        STEADY,
        CACHE,
        CLOCK,
        WIDE_ENOUGH,
        NOT_NULL,
        ENVELOPES,
        MAY_MAKE,
        MAY_UNWRAP,
        MAY_REWRAP,
    }
    columns = {check.subject for check in checks if check.question == MAY_UNWRAP}
    assert columns == {
        "kmsenv_access_pings.position",
        "kmsenv_access_pings.battery",
        "kmsenv_access_pings.note",
        "kmsenv_access_people.name",
    }
    (rotation,) = [check for check in checks if check.question == ROTATION]
    if "NextRotationDate" in _ROTATION.members:
        assert "every 180 days, next 20" in rotation.detail


def test_nothing_is_made_opened_or_shown(world):
    """A doctor does no harm: with DryRun no data key is made, and no value leaves."""
    before = len(world.server.events)
    checks = world.examine(roles=Role)

    assert CANARY not in words(checks)
    asked = world.server.events[before:]
    done = {event.operation for event in asked if event.code is None}
    assert done == {"DescribeKey", "GetKeyRotationStatus"}
    dry = {event.operation for event in asked if event.code == "DryRunOperationException"}
    assert dry == {"GenerateDataKey", "Decrypt", "ReEncrypt"}


def test_disabled_key_is_a_no(world):
    """The table says which, and the permissions do not hide it."""
    world.key.disable()

    checks = world.examine()

    assert {ENABLED, MAY_MAKE, MAY_UNWRAP} <= noes(checks)
    world.key.enable()


def test_key_that_does_not_rotate_is_a_no(world):
    """Auditors ask for it first."""
    world.server.call("DisableKeyRotation", KeyId=world.key.arn)

    assert noes(world.examine()) == {ROTATION}


def test_key_of_another_kind_is_a_no(world):
    """It makes no data keys."""
    other = world.server.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")

    checks = world.examine(clients.aws_kms(world.server, other.arn))

    assert {SYMMETRIC, MAY_MAKE} <= noes(checks)


def test_key_that_does_not_exist_is_a_no(world):
    """Another account or Region, usually."""
    gone = world.key.arn.rpartition("/")[0] + "/1234abcd-12ab-34cd-56ef-1234567890ab"

    assert REACHABLE in noes(world.examine(clients.aws_kms(world.server, gone)))


def test_server_that_does_not_answer_is_a_no(world):
    """Not a traceback."""
    world.server.weather.fault(Fault.RESET)

    checks = world.examine(clients.aws_kms(world.server, world.key.arn, max_attempts=1))

    assert REACHABLE in noes(checks)
    assert CREDENTIALS not in noes(checks)


def test_missing_credentials_are_a_no_once(world, monkeypatch, tmp_path):
    """Not once more for every permission."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    checks = world.examine(AwsKms(world.key.arn, endpoint_url=world.server.url))

    assert noes(checks) == {CREDENTIALS}
    assert not any(check.question == MAY_UNWRAP for check in checks)


@pytest.mark.parametrize("role", Role)
@on("sqlite")
def test_policy_of_a_role_is_all_that_its_examination_needs(world, role):
    """`kmsenv policy` and `kmsenv doctor` agree about what a role is."""
    documents = policies(role, column_contexts(world.models.bindings), {"default": [world.key.arn]})
    somebody = world.server.create_principal(f"exactly-{role}", *documents)
    nobody = world.server.create_principal("nobody")

    able = world.examine(clients.aws_kms(world.server, world.key.arn, somebody), roles=[role])
    unable = world.examine(clients.aws_kms(world.server, world.key.arn, nobody), roles=[role])

    assert noes(able) == set()
    missing = {
        Role.WRITER: {MAY_MAKE},
        Role.READER: {MAY_UNWRAP},
        Role.REWRAP: {MAY_REWRAP, DESCRIBED},
        Role.AUDITOR: {DESCRIBED},
    }
    assert noes(unable) == missing[role]


@pytest.fixture
def replicated(world):
    """A function: the multi-Region key of the rows, as a caller has it who wants a replica."""
    key = world.server.create_key(MultiRegion=True)
    world.server.call("EnableKeyRotation", KeyId=key.arn)
    attach_keyrings(world.models.Base.metadata, keyring_of(clients.aws_kms(world.server, key.arn)))
    ping = {"id": 2, "device_id": "d1", "position": {"lat": 1}, "battery": 1, "note": CANARY}
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM kmsenv_access_pings"))
        connection.execute(text("DELETE FROM kmsenv_access_people"))
        connection.execute(insert(world.models.Ping), [ping])
        connection.execute(insert(world.models.Person), [{"id": 2, "name": CANARY}])

    def kms(principal=None):
        return clients.aws_kms(
            world.server, key.arn, principal, replica_regions=["eu-west-1"], max_attempts=1
        )

    return SimpleNamespace(key=key, kms=kms)


@on("sqlite")
def test_replica_that_does_not_exist_is_a_no(world, replicated):
    """Found out before the outage in which it is needed; a writer does not need it."""
    absent = world.examine(replicated.kms())
    writer = world.examine(replicated.kms(), roles=[Role.WRITER])
    replicated.key.replicate("eu-west-1")
    present = world.examine(replicated.kms(), roles=Role)

    assert noes(absent) == {REACHABLE, MAY_UNWRAP}
    (unreachable,) = [one for one in absent if one.question == REACHABLE and not one.passed]
    assert unreachable.subject == "keyring default, replica in eu-west-1"
    assert noes(writer) == noes(present) == set()
    asked = [one.detail for one in present if one.question == MAY_UNWRAP]
    assert len(asked) == 8
    assert sum("eu-west-1" in detail for detail in asked) == 4


@on("sqlite")
@pytest.mark.parametrize("role", [Role.READER, Role.AUDITOR])
def test_role_that_may_nothing_in_a_replica_region_is_a_no(world, replicated, role):
    """A policy of the key's own ARN alone works until its Region is down."""
    replica = replicated.key.replicate("eu-west-1")
    contexts = column_contexts(world.models.bindings)

    def answered(name, *arns):
        documents = policies(role, contexts, {"default": arns})
        somebody = world.server.create_principal(name, *documents)
        return noes(world.examine(replicated.kms(somebody), roles=[role]))

    missing = {Role.READER: {MAY_UNWRAP}, Role.AUDITOR: {DESCRIBED}}
    assert answered("home-alone", replicated.key.arn) == missing[role]
    assert answered("both", replicated.key.arn, replica.arn) == set()


@on("sqlite")
def test_other_permissions_than_those_of_the_role_are_not_asked_for(world):
    """A writer that cannot read is as it should be."""
    questions = {check.question for check in world.examine(roles=[Role.WRITER])}

    assert MAY_MAKE in questions
    assert not questions & {MAY_UNWRAP, MAY_REWRAP}


@on("sqlite")
@pytest.mark.skipif(
    not DRY_RUN_WITHOUT_BLOB, reason="this botocore can ask about a stored data key only"
)
def test_role_for_one_device_is_examined_for_that_device(world):
    """Without the scope value its permission would seem to be missing."""
    only = {"device_id": ["d7"]}
    contexts = column_contexts(world.models.bindings, only)
    documents = policies(Role.READER, contexts, {"default": [world.key.arn]})
    reader = world.server.create_principal("device-7", *documents)
    kms = clients.aws_kms(world.server, world.key.arn, reader)

    assert MAY_UNWRAP in noes(world.examine(kms, roles=[Role.READER]))
    assert noes(world.examine(kms, roles=[Role.READER], scope_values=only)) == set()


def test_plaintext_in_a_column_is_a_no(world):
    """A migration that was forgotten; the value is not shown."""
    with world.engine.begin() as connection:
        connection.execute(
            text("UPDATE kmsenv_access_pings SET note = :raw"), {"raw": CANARY.encode()}
        )

    checks = world.examine()

    assert noes(checks) == {ENVELOPES} | UNASKABLE
    (answer,) = [one for one in checks if one.question == ENVELOPES and not one.passed]
    assert answer.subject == "kmsenv_access_pings.note"
    assert answer.detail == "1 are not, of the 1 that were looked at"
    assert CANARY not in words(checks)


def rebuilt(world, columns):
    """The table of pings, declared by somebody else."""
    with world.engine.begin() as connection:
        connection.execute(text("DROP TABLE kmsenv_access_pings"))
        connection.execute(text(f"CREATE TABLE kmsenv_access_pings ({columns})"))


TYPES = {
    "sqlite": ("TEXT", "BLOB"),
    "postgresql": ("TEXT", "BYTEA"),
    "mariadb": ("BLOB", "LONGBLOB"),
}


def test_narrow_column_and_nullable_scope_are_noes(world, database):
    """The database would cut values, or take rows that no value can be bound to."""
    narrow, wide = TYPES[database]
    rebuilt(
        world,
        "id INTEGER NOT NULL PRIMARY KEY, device_id VARCHAR(40),"
        f" position {narrow}, battery {wide}, note {wide}",
    )

    checks = world.examine()

    assert noes(checks) == {WIDE_ENOUGH, NOT_NULL} | UNASKABLE
    failed = [one for one in checks if not one.passed and one.question != MAY_UNWRAP]
    assert {(one.subject.rpartition(".")[2], one.question) for one in failed} == {
        ("position", WIDE_ENOUGH),
        ("position", NOT_NULL),
        ("battery", NOT_NULL),
    }
    assert "device_id" in next(one.detail for one in failed if one.question == NOT_NULL)


def test_absent_column_is_a_no_and_not_the_end(world, database):
    """A migration that has not run: the other columns are examined all the same."""
    wide = TYPES[database][1]
    rebuilt(
        world,
        f"id INTEGER NOT NULL PRIMARY KEY, device_id VARCHAR(40) NOT NULL, position {wide},"
        f" battery {wide}",
    )

    checks = world.examine()

    assert noes(checks) == {WIDE_ENOUGH, ENVELOPES} | UNASKABLE
    absent = {one.subject for one in checks if one.question == ENVELOPES and not one.passed}
    assert absent == {"kmsenv_access_pings.note"}


@on("sqlite")
def test_row_id_of_sqlite_needs_no_declaration(world):
    """INTEGER PRIMARY KEY is never NULL, whatever PRAGMA table_info says."""
    rebuilt(
        world,
        "id INTEGER PRIMARY KEY, device_id VARCHAR(40) NOT NULL, position BLOB, battery BLOB,"
        " note BLOB",
    )

    assert noes(world.examine()) == UNASKABLE


@on("sqlite")
def test_cache_without_end_is_a_no(world):
    """A role whose permission is taken away would read on for days."""
    kms = clients.aws_kms(world.server, world.key.arn)
    keyring = keyring_of(kms, cache=CachePolicy(max_age_seconds=86_400))
    attach_keyrings(world.models.Base.metadata, keyring)

    assert noes(world.examine()) == {CACHE}


def test_clock_that_is_wrong_is_a_no(engine):
    """AWS refuses requests that are five minutes off."""
    now = datetime.datetime.now(datetime.UTC).timestamp()

    with engine.connect() as connection:
        (right,) = clock_check(connection)
        (wrong,) = clock_check(connection, lambda: now + 600)

    assert right.passed
    assert not wrong.passed
    assert "seconds apart" in wrong.detail


@on("sqlite")
def test_local_key_is_examined_without_what_it_cannot_tell(world, tmp_path):
    """Development and small deployments."""
    checks = world.examine(LocalKms.create(tmp_path / "keys.json"))

    # The rows are under the other key, which is nothing that a permission is missing for.
    assert noes(checks) == set()
    assert ROTATION not in {check.question for check in checks}


@on("sqlite")
def test_nothing_to_examine_is_refused(world):
    """Yes to no question is no answer."""
    with pytest.raises(ConfigurationError):
        list(examine(world.engine, []))
    with pytest.raises(ConfigurationError):
        list(examine(world.engine, world.models.bindings, roles=[]))


def test_database_that_is_gone_is_the_callers_error(server, tmp_path):
    """It is no answer about a column."""
    models = make_models()
    attach_keyrings(models.Base.metadata, keyring_of(LocalKms.create(tmp_path / "k.json")))
    engine = create_engine(f"sqlite:///{tmp_path / 'absent' / 'x.db'}")

    with pytest.raises(OperationalError, match="unable to open"):
        list(examine(engine, models.bindings))
    assert isinstance(server, KmsServer)
