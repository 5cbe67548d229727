"""What this library stands on, case by case, and what KMS is documented to do.

A case does something and says in a few words how it ended. ``library`` cases go through
``Kms`` and run on every subject; ``api`` cases need the KMS API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sqlalchemy_kmsenv.errors import KmsEnvError
from tests.contract.subjects import Api, Key, Subject

CONTEXT = {"kmsenv:table": "pings", "device_id": "d1"}
WORKS = "works"
HEX = "64 hexadecimal digits"


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    expected: str
    run: Callable[[Any], str]
    through: str
    changes_key: bool
    """Rotates, disables or deletes: not done to a real key."""

    def outcome(self, subject: Subject) -> str:
        """How it ends on a subject: a word of the case, or the error."""
        try:
            return self.run(subject)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        except (KmsEnvError, BotoCoreError) as error:
            return type(error).__name__


CASES: dict[str, Case] = {}


def case(through: str, name: str, expected: str, *, changes_key: bool = False) -> Any:
    """Enter a function into the table."""

    def enter(run: Callable[[Any], str]) -> Callable[[Any], str]:
        CASES[name] = Case(name, expected, run, through, changes_key)
        return run

    return enter


def made(key: Key) -> bytes:
    """A wrapped data key."""
    return key.kms.generate_data_key(CONTEXT).wrapped


def flipped(blob: bytes, position: int) -> bytes:
    """One bit of a byte turned around."""
    damaged = bytearray(blob)
    damaged[position] ^= 1
    return bytes(damaged)


@case("library", "a data key unwraps under its context", WORKS)
def _(subject: Subject) -> str:
    key = subject.key()
    new = key.kms.generate_data_key(CONTEXT)
    backwards = dict(reversed(CONTEXT.items()))
    same = key.kms.unwrap(new.wrapped, backwards, key_arn=key.arn) == new.plaintext
    return WORKS if same else "another data key"


@case("library", "... under another context", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.unwrap(made(key), {**CONTEXT, "device_id": "d2"}, key_arn=key.arn)
    return WORKS


@case("library", "... under no context", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.unwrap(made(key), {}, key_arn=key.arn)
    return WORKS


@case("library", "... under `{'a': 'b=c'}` instead of `{'a=b': 'c'}`", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    blob = key.kms.generate_data_key({"a=b": "c"}).wrapped
    key.kms.unwrap(blob, {"a": "b=c"}, key_arn=key.arn)
    return WORKS


@case("library", "... under `{'ab': 'c'}` instead of `{'a': 'bc'}`", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    blob = key.kms.generate_data_key({"a": "bc"}).wrapped
    key.kms.unwrap(blob, {"ab": "c"}, key_arn=key.arn)
    return WORKS


@case("library", "... with any one of its bytes altered", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    blob = made(key)
    outcomes = set()
    for position in range(len(blob)):
        try:
            key.kms.unwrap(flipped(blob, position), CONTEXT, key_arn=key.arn)
            outcomes.add(WORKS)
        except KmsEnvError as error:
            outcomes.add(type(error).__name__)
    return ", ".join(sorted(outcomes))


@case("library", "... truncated", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.unwrap(made(key)[:-1], CONTEXT, key_arn=key.arn)
    return WORKS


@case("library", "... with another key pinned", "WrongCellError", changes_key=True)
def _(subject: Subject) -> str:
    key, other = subject.key(), subject.key()
    other.kms.unwrap(made(key), CONTEXT, key_arn=other.arn)
    return WORKS


@case("library", "re-wrapping keeps the data key and takes a new context", WORKS)
def _(subject: Subject) -> str:
    key = subject.key()
    new = key.kms.generate_data_key(CONTEXT)
    moved = key.kms.rewrap(new.wrapped, CONTEXT, key_arn=key.arn, new_context={"a": "b"})
    same = key.kms.unwrap(moved.wrapped, {"a": "b"}, key_arn=key.arn) == new.plaintext
    return WORKS if same else "another data key"


@case("library", "re-wrapping from a wrong context", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.rewrap(made(key), {}, key_arn=key.arn)
    return WORKS


@case("library", "a data key tells its key material", HEX)
def _(subject: Subject) -> str:
    known = subject.key().kms.generate_data_key(CONTEXT).material_id
    return "unknown" if known is None else HEX


@case(
    "library",
    "rotation gives new key material, and the old still unwraps",
    WORKS,
    changes_key=True,
)
def _(subject: Subject) -> str:
    key = subject.key()
    old = key.kms.generate_data_key(CONTEXT)
    key.rotate()
    new = key.kms.generate_data_key(CONTEXT)
    if key.kms.unwrap(old.wrapped, CONTEXT, key_arn=key.arn) != old.plaintext:
        return "another data key"
    if old.material_id is None:
        return "unwraps; material unknown"
    moved = key.kms.rewrap(old.wrapped, CONTEXT, key_arn=key.arn)
    renewed = old.material_id != new.material_id == moved.material_id
    return WORKS if renewed else "no new material"


def _disabled(name: str, use: Callable[[Key, bytes], object], expected: str) -> None:
    @case("library", name, expected, changes_key=True)
    def _(subject: Subject) -> str:
        key = subject.key()
        blob = made(key)
        key.disable()
        use(key, blob)
        return WORKS


_disabled("a disabled key makes a data key", lambda key, _: made(key), "KeyStateError")
_disabled(
    "... unwraps",
    lambda key, blob: key.kms.unwrap(blob, CONTEXT, key_arn=key.arn),
    "KeyStateError",
)
_disabled(
    "... re-wraps",
    lambda key, blob: key.kms.rewrap(blob, CONTEXT, key_arn=key.arn),
    "KeyStateError",
)
_disabled(
    "... would make a data key (dry run)",
    lambda key, _: key.kms.would_generate(CONTEXT),
    "KeyStateError",
)


@case("library", "... and is described as it is", "Enabled, Disabled, Enabled", changes_key=True)
def _(subject: Subject) -> str:
    key = subject.key()
    states = [key.kms.describe().state]
    for change in (key.disable, key.enable):
        change()
        states.append(key.kms.describe().state)
    return ", ".join(states)


@case("library", "a dry run says what would be allowed", WORKS)
def _(subject: Subject) -> str:
    key = subject.key()
    blob = made(key)
    key.kms.would_generate(CONTEXT)
    key.kms.would_unwrap(CONTEXT, key_arn=key.arn, wrapped=blob)
    key.kms.would_rewrap(CONTEXT, key_arn=key.arn, wrapped=blob)
    return WORKS


@case("library", "a dry run without a wrapped data key", WORKS)
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.would_unwrap(CONTEXT, key_arn=key.arn)
    key.kms.would_rewrap(CONTEXT, key_arn=key.arn)
    return WORKS


@case("library", "a dry run of a damaged wrapped data key", "WrongCellError")
def _(subject: Subject) -> str:
    key = subject.key()
    key.kms.would_unwrap(CONTEXT, key_arn=key.arn, wrapped=flipped(made(key), -1))
    return WORKS


# Through boto3


def generated(subject: Api) -> tuple[str, dict[str, Any]]:
    """The id of a key, and an answer to GenerateDataKey."""
    key_id = subject.key().id
    return key_id, subject.client.generate_data_key(KeyId=key_id, KeySpec="AES_256")


def described(answer: dict[str, Any], *names: str) -> str:
    """Whether the answer has key material ids."""
    values = [answer.get(name) for name in names]
    if all(isinstance(value, str) and len(value) == 64 for value in values):
        return HEX
    return "absent" if None in values else "of another form"


@case("api", "length of a wrapped 32-byte data key", "184")
def _(subject: Api) -> str:
    return str(len(generated(subject)[1]["CiphertextBlob"]))


@case("api", "Decrypt of a damaged blob", "InvalidCiphertextException")
def _(subject: Api) -> str:
    key_id, answer = generated(subject)
    subject.client.decrypt(CiphertextBlob=flipped(answer["CiphertextBlob"], -1), KeyId=key_id)
    return WORKS


@case("api", "Decrypt of a blob that is none", "InvalidCiphertextException")
def _(subject: Api) -> str:
    subject.client.decrypt(CiphertextBlob=b"x" * 184)
    return WORKS


@case("api", "Decrypt with another key pinned", "IncorrectKeyException", changes_key=True)
def _(subject: Api) -> str:
    other = subject.key().arn
    subject.client.decrypt(CiphertextBlob=generated(subject)[1]["CiphertextBlob"], KeyId=other)
    return WORKS


@case("api", "ReEncrypt with another source pinned", "IncorrectKeyException", changes_key=True)
def _(subject: Api) -> str:
    other = subject.key().arn
    key_id, answer = generated(subject)
    subject.client.re_encrypt(
        CiphertextBlob=answer["CiphertextBlob"], SourceKeyId=other, DestinationKeyId=key_id
    )
    return WORKS


@case("api", "ReEncrypt without SourceKeyId", WORKS)
def _(subject: Api) -> str:
    key_id, answer = generated(subject)
    subject.client.re_encrypt(CiphertextBlob=answer["CiphertextBlob"], DestinationKeyId=key_id)
    return WORKS


@case("api", "KeyMaterialId of GenerateDataKey and Decrypt", HEX)
def _(subject: Api) -> str:
    answer = generated(subject)[1]
    opened = subject.client.decrypt(CiphertextBlob=answer["CiphertextBlob"])
    both = {"made": answer.get("KeyMaterialId"), "opened": opened.get("KeyMaterialId")}
    return described(both, "made", "opened")


@case("api", "SourceKeyMaterialId, DestinationKeyMaterialId of ReEncrypt", HEX)
def _(subject: Api) -> str:
    key_id, answer = generated(subject)
    moved = subject.client.re_encrypt(
        CiphertextBlob=answer["CiphertextBlob"], SourceKeyId=key_id, DestinationKeyId=key_id
    )
    return described(moved, "SourceKeyMaterialId", "DestinationKeyMaterialId")


@case("api", "CurrentKeyMaterialId of DescribeKey", HEX)
def _(subject: Api) -> str:
    metadata = subject.client.describe_key(KeyId=subject.key().arn)["KeyMetadata"]
    return described(metadata, "CurrentKeyMaterialId")


@case("api", "ListKeyRotations after one, without and with the first material", "1, 2",
      changes_key=True)  # fmt: skip
def _(subject: Api) -> str:
    key = subject.key()
    key.rotate()
    done = subject.client.list_key_rotations(KeyId=key.arn)["Rotations"]
    everything = subject.client.list_key_rotations(
        KeyId=key.arn, IncludeKeyMaterial="ALL_KEY_MATERIAL"
    )["Rotations"]
    return f"{len(done)}, {len(everything)}"


@case("api", "the 26th rotation on demand", "LimitExceededException", changes_key=True)
def _(subject: Api) -> str:
    key = subject.key()
    for _ in range(26):
        key.rotate()
    return WORKS


@case("api", "DryRun of GenerateDataKey", "DryRunOperationException")
def _(subject: Api) -> str:
    arn = subject.key().arn
    subject.client.generate_data_key(KeyId=arn, KeySpec="AES_256", DryRun=True)
    return WORKS


@case("api", "DisableKey by the ARN of the key", WORKS, changes_key=True)
def _(subject: Api) -> str:
    subject.client.disable_key(KeyId=subject.key().arn)
    return WORKS


@case("api", "Decrypt under a disabled key", "DisabledException", changes_key=True)
def _(subject: Api) -> str:
    key_id, answer = generated(subject)
    subject.client.disable_key(KeyId=key_id)
    subject.client.decrypt(CiphertextBlob=answer["CiphertextBlob"])
    return WORKS


def _pending(name: str, use: Callable[[Any, str, bytes], object]) -> None:
    @case("api", name, "KMSInvalidStateException", changes_key=True)
    def _(subject: Api) -> str:
        key_id, answer = generated(subject)
        subject.client.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
        use(subject.client, key_id, answer["CiphertextBlob"])
        return WORKS


_pending(
    "GenerateDataKey under a key pending deletion",
    lambda client, arn, _: client.generate_data_key(KeyId=arn, KeySpec="AES_256"),
)
_pending("... Decrypt", lambda client, _, blob: client.decrypt(CiphertextBlob=blob))
_pending("... EnableKey", lambda client, arn, _: client.enable_key(KeyId=arn))


@case("api", "ScheduleKeyDeletion in 6 days", "ValidationException", changes_key=True)
def _(subject: Api) -> str:
    subject.client.schedule_key_deletion(KeyId=subject.key().arn, PendingWindowInDays=6)
    return WORKS


@case("api", "KeyId answered for an alias", "the ARN of the key", changes_key=True)
def _(subject: Api) -> str:
    arn = subject.key().arn
    subject.client.create_alias(AliasName="alias/contract/a", TargetKeyId=arn)
    answer = subject.client.generate_data_key(KeyId="alias/contract/a", KeySpec="AES_256")
    subject.client.delete_alias(AliasName="alias/contract/a")
    return "the ARN of the key" if answer["KeyId"] == arn else "something else"


@case("api", "CreateAlias twice", "AlreadyExistsException", changes_key=True)
def _(subject: Api) -> str:
    arn = subject.key().arn
    subject.client.create_alias(AliasName="alias/contract/b", TargetKeyId=arn)
    try:
        subject.client.create_alias(AliasName="alias/contract/b", TargetKeyId=arn)
    finally:
        subject.client.delete_alias(AliasName="alias/contract/b")
    return WORKS


@case("api", "GenerateDataKey with an alias that is not there", "NotFoundException")
def _(subject: Api) -> str:
    subject.client.generate_data_key(KeyId="alias/contract/none", KeySpec="AES_256")
    return WORKS


@case("api", "GenerateDataKey without a length", "ValidationException")
def _(subject: Api) -> str:
    subject.client.generate_data_key(KeyId=subject.key().arn)
    return WORKS


@case("api", "Encrypt of 4,097 bytes", "ValidationException")
def _(subject: Api) -> str:
    subject.client.encrypt(KeyId=subject.key().arn, Plaintext=b"x" * 4097)
    return WORKS


@case("api", "a grant token that is none", "InvalidGrantTokenException")
def _(subject: Api) -> str:
    arn = subject.key().arn
    subject.client.generate_data_key(KeyId=arn, KeySpec="AES_256", GrantTokens=["none"])
    return WORKS


@case("api", "VerifyMac of a wrong code", "KMSInvalidMacException", changes_key=True)
def _(subject: Api) -> str:
    made = subject.client.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    given = {"KeyId": made["KeyMetadata"]["Arn"], "MacAlgorithm": "HMAC_SHA_256"}
    mac = subject.client.generate_mac(Message=b"m", **given)["Mac"]
    answer = subject.client.verify_mac(Message=b"other", Mac=mac, **given)
    return f"MacValid {answer['MacValid']}"


@case("api", "a replica opens what its primary key wrapped", WORKS, changes_key=True)
def _(subject: Api) -> str:
    arn = subject.client.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    answer = subject.client.generate_data_key(KeyId=arn, KeySpec="AES_256")
    there = subject.connect(region_name="eu-west-1")
    replica = subject.client.replicate_key(KeyId=arn, ReplicaRegion="eu-west-1")
    replica_arn = replica["ReplicaKeyMetadata"]["Arn"]
    opened = there.decrypt(CiphertextBlob=answer["CiphertextBlob"], KeyId=replica_arn)
    there.close()
    return WORKS if opened["Plaintext"] == answer["Plaintext"] else "another data key"


@case("api", "a caller whom nobody knows", "UnrecognizedClientException")
def _(subject: Api) -> str:
    stranger = subject.connect(aws_access_key_id="AKIASTRANGER", aws_secret_access_key="none")
    try:
        stranger.list_keys()
    finally:
        stranger.close()
    return WORKS
