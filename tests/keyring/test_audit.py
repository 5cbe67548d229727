"""What is told of each use of a data key: to the audit hook, and in numbers."""

import datetime
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlalchemy_kmsenv import AuditError, Keyring, KeyUse
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, parse_header
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyStateError, WrongCellError
from sqlalchemy_kmsenv.keyring import CachePolicy, CommitmentError, statements
from sqlalchemy_kmsenv.kms import AwsKms, CountingKms, UnwrappedDataKey
from tests.kms.aws_stub import error, running_stub, session
from tests.kms.test_aws import KEY_ARN, MATERIAL_ID, as_botocore_tells, generated

PAIRS = (("kmsenv:column", "position"), ("kmsenv:table", "pings"))
CANARY = b"canary-of-a-value"


class Journal(list):
    """An audit hook that keeps what it is told."""

    def __call__(self, use: KeyUse) -> None:
        self.append(use)

    def operations(self):
        return [use.operation for use in self]


class Fails:
    """An audit hook whose disk is full, for some operations."""

    def __init__(self, *operations):
        self.operations = operations

    def __call__(self, use):
        if use.operation in self.operations:
            raise OSError("disk full")


@pytest.fixture
def journal():
    """An empty journal."""
    return Journal()


@pytest.fixture
def audited(local_kms, journal):
    """A keyring that writes into it."""
    return Keyring(local_kms, audit=journal, name="places", context={"app": "maps"})


def seal(keyring, *payloads):
    """One envelope a payload."""
    sections = [b"i%d:" % index for index in range(len(payloads))]
    return list(map(bytes, keyring.seal_many(PAIRS, 2, b"prefix", sections, payloads)))


def reference_of(envelope):
    """The wrapped data key that it carries."""
    return parse_header(envelope).reference


def test_sealing_tells_of_the_key_that_was_made_and_of_the_batch(audited, journal, local_kms):
    """Who made which key, and how much went under it."""
    before = datetime.datetime.now(datetime.UTC)

    seal(audited, CANARY, CANARY)
    seal(audited, CANARY)

    assert journal.operations() == ["generate", "seal", "seal"]
    assert [use.values for use in journal] == [None, 2, 1]
    made = journal[0]
    assert before <= made.at <= datetime.datetime.now(datetime.UTC)
    assert (made.outcome, made.error, made.keyring) == ("done", None, "places")
    assert made.context == {"app": "maps", **dict(PAIRS)}
    assert made.key_arn == local_kms.resolve()
    assert made.material == local_kms.material_ids[-1]
    assert journal[1].material == made.material[:16]


def test_unwrapping_is_told_once_for_the_time_that_the_key_is_held(audited, journal):
    """One record for each Decrypt in CloudTrail."""
    reference = reference_of(seal(audited, CANARY)[0])
    journal.clear()

    for _ in range(3):
        audited.opening_key(PAIRS, reference)

    assert journal.operations() == ["unwrap"]


def test_refused_call_is_told_with_the_class_of_its_error(audited, journal, local_kms):
    """Failed attempts are what an auditor looks for first."""
    reference = reference_of(seal(audited, CANARY)[0])
    journal.clear()

    with pytest.raises(WrongCellError):
        audited.opening_key((("kmsenv:table", "other"),), reference)
    local_kms.disable()
    audited.forget()
    with pytest.raises(KeyStateError):
        seal(audited, CANARY)

    assert [(use.operation, use.outcome, use.error) for use in journal] == [
        ("unwrap", "refused", "WrongCellError"),
        ("generate", "refused", "KeyStateError"),
    ]
    assert journal[0].context["kmsenv:table"] == "other"
    assert dict(audited.stats().failures) == {"WrongCellError": 1, "KeyStateError": 1}


def test_key_that_is_not_listed_and_key_that_is_not_committed_to_are_told(audited, journal):
    """Both are what somebody tries who can write to the table."""
    reference = reference_of(seal(audited, CANARY)[0])
    journal.clear()
    foreign = InlineReference(bytes(8), bytes(8), reference.commitment, reference.wrapped)
    uncommitted = InlineReference(
        reference.fingerprint, reference.material_hint, bytes(32), reference.wrapped
    )

    with pytest.raises(ConfigurationError):
        audited.opening_key(PAIRS, foreign)
    with pytest.raises(CommitmentError):
        audited.opening_key(PAIRS, uncommitted)

    assert [use.error for use in journal] == ["ConfigurationError", "CommitmentError"]
    assert (journal[0].key_arn, journal[0].material) == (None, None)


@pytest.mark.parametrize("operation", ["generate", "seal"])
def test_nothing_is_sealed_where_the_hook_fails(local_kms, operation):
    """What cannot be accounted for must not happen."""
    keyring = Keyring(local_kms, audit=Fails(operation))

    with pytest.raises(AuditError, match="OSError") as caught:
        seal(keyring, CANARY)

    assert isinstance(caught.value.__cause__, OSError)
    assert keyring.stats().values_sealed == 0
    assert keyring.stats().held_for_sealing == (1 if operation == "seal" else 0)


def test_data_key_is_not_kept_where_the_hook_fails(local_kms, keyring):
    """The next attempt has to be told again."""
    reference = reference_of(seal(keyring, CANARY)[0])
    counted = CountingKms(local_kms)
    refusing = Keyring(counted, audit=Fails("unwrap"))

    for _ in range(2):
        with pytest.raises(AuditError):
            refusing.opening_key(PAIRS, reference)

    assert counted.calls["unwrap"] == 2
    assert refusing.stats().held_for_opening == 0


def test_first_error_is_not_hidden_by_the_hook(local_kms):
    """Nothing was used, and the cause lies with the key."""
    keyring = Keyring(local_kms, audit=Fails("generate"))
    local_kms.disable()

    with pytest.raises(KeyStateError) as caught:
        seal(keyring, CANARY)

    assert any("audit hook" in note for note in caught.value.__notes__)


def test_hook_that_cannot_be_called_is_refused_at_once(local_kms):
    """Not at the first insert."""
    with pytest.raises(ConfigurationError, match="audit"):
        Keyring(local_kms, audit="journal.log")  # type: ignore[arg-type]


def test_record_is_json(audited, journal):
    """It is on its way to a log."""
    seal(audited, CANARY)

    record = json.loads(json.dumps(journal[0].to_dict()))

    assert record["operation"] == "generate"
    assert record["context"]["kmsenv:table"] == "pings"
    assert datetime.datetime.fromisoformat(record["at"]) == journal[0].at


def test_request_id_and_material_of_the_service_are_told(journal):
    """CloudTrail has the same id, so that the two can be joined."""
    with running_stub() as stub:
        stub.answer = generated()
        kms = AwsKms(KEY_ARN, endpoint_url=stub.url, session=session(), max_attempts=1)
        keyring = Keyring(kms, audit=journal)
        reference = reference_of(seal(keyring, CANARY)[0])
        keyring.opening_key(PAIRS, reference)
        keyring.forget()
        for code in ("AccessDeniedException", "InvalidCiphertextException"):
            stub.answer = error(code)
            with pytest.raises(Exception, match=code):
                keyring.opening_key(PAIRS, reference)

    calls = [use for use in journal if use.operation != "seal"]
    assert [(use.operation, use.error, use.request_id) for use in calls] == [
        ("generate", None, "request-7"),
        ("unwrap", None, "request-7"),
        ("unwrap", "KeyServiceDeniedError", "request-7"),
        ("unwrap", "WrongCellError", "request-7"),
    ]
    assert journal[0].material == as_botocore_tells(MATERIAL_ID)
    assert {use.key_arn for use in journal} == {KEY_ARN}


def test_records_hold_neither_values_nor_keys(audited, journal):
    """They go to places with other readers."""
    envelope = seal(audited, CANARY)[0]
    audited.opening_key(PAIRS, reference_of(envelope))

    shown = f"{journal} {[use.to_dict() for use in journal]}"

    assert CANARY.decode() not in shown
    wrapped = reference_of(envelope).wrapped
    assert str(wrapped) not in shown
    assert wrapped.hex() not in shown


def test_numbers_follow_what_is_done(local_kms):
    """They are what an operator looks at first."""
    keyring = Keyring(local_kms, cache=CachePolicy(max_messages=2))
    envelopes = seal(keyring, b"1", b"2", b"3")
    for envelope in (*envelopes, envelopes[0]):
        keyring.opening_key(PAIRS, reference_of(envelope))

    stats = keyring.stats()

    assert (stats.data_keys_made, stats.unwraps, stats.rewraps) == (2, 2, 0)
    assert (stats.values_sealed, stats.values_opened, stats.values_refused) == (3, 0, 0)
    assert (stats.open_misses, stats.open_hits) == (2, 2)
    assert (stats.held_for_sealing, stats.held_for_opening) == (1, 2)
    assert dict(stats.failures) == {}


def test_threads_that_wait_for_one_call_are_told_of_once(local_kms, journal):
    """There was one call, and CloudTrail has one event."""
    keyring = Keyring(local_kms, audit=journal)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: seal(keyring, CANARY), range(16)))

    assert journal.operations().count("generate") == keyring.stats().data_keys_made == 1
    assert keyring.stats().values_sealed == 16


def test_keyring_is_called_after_what_it_is_attached_as(local_kms):
    """A name that nobody had to give twice."""
    for keyring, before, after in (
        (Keyring(local_kms), "unnamed", "billing"),
        (Keyring(local_kms, name="x"), "x", "x"),
    ):
        assert keyring.name == before
        for name in ("billing", "second"):
            keyring.call_it(name)
            assert keyring.name == after


def test_material_that_the_envelope_does_not_tell_is_unknown(local_kms, journal):
    """Zeros are no name."""
    keyring = Keyring(local_kms, audit=journal)
    arn = local_kms.resolve()
    reference = InlineReference(key_fingerprint(arn), bytes(8), bytes(32), b"x")

    with pytest.raises(WrongCellError):
        keyring.opening_key(PAIRS, reference)

    assert (journal[0].key_arn, journal[0].material) == (arn, None)


def test_wrapping_anew_is_told_and_counted(audited, journal, local_kms):
    """A job over a million rows is a million uses of data keys, none of them in plaintext."""
    reference = reference_of(seal(audited, CANARY)[0])
    local_kms.rotate()
    journal.clear()

    renewed = audited.rewrap(PAIRS, reference)
    with pytest.raises(WrongCellError):
        audited.rewrap((("kmsenv:table", "other"),), reference)

    assert [(use.operation, use.error) for use in journal] == [
        ("rewrap", None),
        ("rewrap", "WrongCellError"),
    ]
    assert journal[0].material == local_kms.material_ids[-1]
    assert renewed.material_hint.hex() == journal[0].material[:16]
    assert audited.stats().rewraps == 1


def test_twin_is_watched_like_the_first(audited, journal):
    """A job works with a twin of the keyring: nobody may get around the hook that way."""
    seal(audited.twin(lambda kms: kms), CANARY)

    assert journal.operations() == ["generate", "seal"]
    assert {use.keyring for use in journal} == {"places"}


def test_what_a_statement_was_told_of_is_not_remembered_without_end():
    """A result may have a data key a row."""
    statements.next_statement()
    for number in range(10_000):
        statements.seen_by_statement().add(number)

    assert 0 < len(statements.seen_by_statement()) <= 4096
    assert statements.seen_by_statement() is statements.seen_by_statement()
    statements.next_statement()
    assert statements.seen_by_statement() == set()


def test_unwrapped_data_key_does_not_show_itself():
    """Debuggers and crash reports show variables."""
    data_key = UnwrappedDataKey(CANARY)

    assert "canary" not in f"{data_key} {data_key!r} {vars(data_key)}"
