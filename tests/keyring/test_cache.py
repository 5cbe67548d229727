"""Data keys in use: who makes one, how long it serves, and what it costs."""

import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlalchemy_kmsenv.aead import NONCE_BYTES
from sqlalchemy_kmsenv.envelope import InlineReference, parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceError,
    KeyServiceUnavailableError,
    KeyStateError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CachePolicy, Keyring
from sqlalchemy_kmsenv.kms import CountingKms, GeneratedDataKey, LocalKms

PAIRS = (("kmsenv:column", "pos"), ("kmsenv:table", "pings"))
THREADS = 8


def of_tenant(number):
    """The pairs of one tenant's data keys."""
    return (*PAIRS, ("tenant_id", str(number)))


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class PausingKms(CountingKms):
    """Waits in every call until the test lets it go on, and then may fail."""

    def __init__(self, kms, failure=None):
        super().__init__(kms)
        self.entered = threading.Event()
        self.resume = threading.Event()
        self.failure = failure

    def generate_data_key(self, context):
        made = super().generate_data_key(context)
        self._pause()
        return made

    def unwrap(self, wrapped, context, *, key_arn):
        data_key = super().unwrap(wrapped, context, key_arn=key_arn)
        self._pause()
        return data_key

    def _pause(self):
        self.entered.set()
        assert self.resume.wait(30)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def local(tmp_path):
    """A key of its own for the test."""
    return LocalKms.create(tmp_path / "k.json")


@pytest.fixture
def kms(local):
    """The same, counted."""
    return CountingKms(local)


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


def seal(keyring, *payloads, pairs=PAIRS):
    """One envelope a payload."""
    sections = [b"i%d:" % index for index in range(len(payloads))]
    return list(map(bytes, keyring.seal_many(pairs, 2, b"prefix", sections, payloads)))


def reference_of(envelope):
    """The wrapped data key that it carries."""
    return parse_header(envelope).reference


def open_one(keyring, envelope, *, section=b"i0:", pairs=PAIRS):
    """The payload of an envelope."""
    header = parse_header(envelope)
    cipher = keyring.opening_key(pairs, header.reference).cipher
    return cipher.open(envelope, header.size, b"prefix" + section)


def in_threads(call):
    """The results of one call in each of eight threads, or their exceptions."""

    def outcome(_):
        try:
            return call()
        except Exception as error:  # noqa: BLE001  handed to the test
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(outcome, range(THREADS)))


def through_one_flight(kms, call):
    """``in_threads``, where all miss while the first is still in its KMS call."""
    barrier = threading.Barrier(THREADS)

    def together():
        barrier.wait(30)
        return call()

    def let_go():
        assert kms.entered.wait(30)
        # The others are past the barrier; this is ample for them to find the flight.
        threading.Event().wait(0.2)
        kms.resume.set()

    helper = threading.Thread(target=let_go)
    helper.start()
    try:
        return in_threads(together)
    finally:
        helper.join()


def exit_code_of_child(call, seconds=10):
    """What a forked child that makes this call exits with; negative where it hung."""
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(seconds)
        try:
            code = 0 if call() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_batch_costs_one_call_and_opens_again(kms):
    """The number of values does not matter."""
    with kms.expect(generate_data_key=1):
        envelopes = seal(Keyring(kms), b"a", b"b", b"c")

    reader = Keyring(kms)
    with kms.expect(unwrap=1):
        opened = [
            open_one(reader, envelope, section=b"i%d:" % index)
            for index, envelope in enumerate(envelopes)
        ]
    assert opened == [b"a", b"b", b"c"]


def test_sealing_nothing_costs_nothing(kms):
    """An empty batch needs no key."""
    with kms.expect():
        assert seal(Keyring(kms)) == []


def test_every_value_has_a_nonce_of_its_own(kms):
    """A nonce used twice would give both values away."""
    envelopes = seal(Keyring(kms), *[b"same"] * 500)
    starts = {parse_header(envelope).size for envelope in envelopes}
    (start,) = starts
    assert len({envelope[start : start + NONCE_BYTES] for envelope in envelopes}) == 500


def test_each_context_has_its_own_data_key(kms):
    """Whoever may unwrap for one tenant may not for another."""
    keyring = Keyring(kms)
    with kms.expect(generate_data_key=2):
        (one,) = seal(keyring, b"a", pairs=of_tenant(1))
        (two,) = seal(keyring, b"a", pairs=of_tenant(2))
        seal(keyring, b"a", pairs=of_tenant(1))
    assert reference_of(one) != reference_of(two)
    with pytest.raises(WrongCellError):
        open_one(Keyring(kms), one, pairs=of_tenant(2))


def test_age_ends_a_sealing_key(kms, clock):
    """Counted from the call on, to the second."""
    keyring = Keyring(kms, cache=CachePolicy(max_age_seconds=30), clock=clock)
    with kms.expect(generate_data_key=1):
        seal(keyring, b"a")
        clock.now += 29.9
        seal(keyring, b"a")
    clock.now += 0.1
    with kms.expect(generate_data_key=1):
        seal(keyring, b"a")


def test_age_ends_an_opening_key(kms, clock):
    """Opening it again and again does not extend it."""
    (envelope,) = seal(Keyring(kms), b"a")
    keyring = Keyring(kms, cache=CachePolicy(max_age_seconds=30), clock=clock)
    with kms.expect(unwrap=1):
        for _ in range(3):
            open_one(keyring, envelope)
            clock.now += 10
    with kms.expect(unwrap=1):
        open_one(keyring, envelope)


def test_the_time_of_the_call_counts_as_age(local, clock):
    """Age begins when the KMS is asked, not when it answers."""

    class SlowKms(CountingKms):
        def generate_data_key(self, context):
            clock.now += 20
            return super().generate_data_key(context)

    slow = SlowKms(local)
    keyring = Keyring(slow, cache=CachePolicy(max_age_seconds=30), clock=clock)
    seal(keyring, b"a")
    clock.now += 10
    with slow.expect(generate_data_key=1):
        seal(keyring, b"a")


def test_a_call_that_takes_longer_than_the_age_still_serves_one_batch(local, clock):
    """Or nothing could ever be sealed."""

    class SlowKms(CountingKms):
        def generate_data_key(self, context):
            clock.now += 60
            return super().generate_data_key(context)

    slow = SlowKms(local)
    with slow.expect(generate_data_key=1):
        seal(Keyring(slow, cache=CachePolicy(max_age_seconds=30), clock=clock), b"a", b"b")


def test_a_dead_entry_is_dropped_without_being_asked_for(kms, clock):
    """Key material does not outlive its age because nobody reads that tenant any more."""
    (envelope,) = seal(Keyring(kms), b"a", pairs=of_tenant(1))
    (other,) = seal(Keyring(kms), b"a", pairs=of_tenant(2))
    keyring = Keyring(kms, cache=CachePolicy(max_age_seconds=30), clock=clock)
    held = keyring.opening_key(of_tenant(1), reference_of(envelope))
    clock.now += 30
    keyring.opening_key(of_tenant(2), reference_of(other))
    assert held.cipher is None


def test_messages_end_a_sealing_key(kms):
    """One more value, one more data key."""
    keyring = Keyring(kms, cache=CachePolicy(max_messages=3))
    with kms.expect(generate_data_key=1):
        seal(keyring, b"a", b"b")
        seal(keyring, b"c")
    with kms.expect(generate_data_key=1):
        seal(keyring, b"d")


def test_a_batch_larger_than_the_messages_is_split_over_several_data_keys(kms):
    """As few as the policy allows, each full but the last."""
    keyring = Keyring(kms, cache=CachePolicy(max_messages=3))
    payloads = [b"%d" % number for number in range(8)]
    with kms.expect(generate_data_key=3):
        envelopes = seal(keyring, *payloads)

    references = [reference_of(envelope) for envelope in envelopes]
    assert [references.count(reference) for reference in dict.fromkeys(references)] == [3, 3, 2]
    opened = [
        open_one(Keyring(kms), envelope, section=b"i%d:" % index)
        for index, envelope in enumerate(envelopes)
    ]
    assert opened == payloads


def test_bytes_end_a_sealing_key(kms):
    """Payload is counted, not headers."""
    keyring = Keyring(kms, cache=CachePolicy(max_bytes=10))
    with kms.expect(generate_data_key=1):
        seal(keyring, b"12345", b"12345")
        seal(keyring, b"")
    with kms.expect(generate_data_key=1):
        seal(keyring, b"1")


def test_a_batch_larger_than_the_bytes_is_split(kms):
    """In order, as many to a key as fit, to the last byte."""
    keyring = Keyring(kms, cache=CachePolicy(max_bytes=10))
    with kms.expect(generate_data_key=3):
        envelopes = seal(keyring, b"123456", b"1234", b"1", *[b"12345"] * 2)
    references = list(map(reference_of, envelopes))
    assert [references.count(reference) for reference in dict.fromkeys(references)] == [2, 2, 1]


def test_a_value_larger_than_all_bytes_gets_a_key_to_itself(kms):
    """A small limit does not forbid large values."""
    keyring = Keyring(kms, cache=CachePolicy(max_bytes=10))
    with kms.expect(generate_data_key=3):
        envelopes = seal(keyring, b"1", bytes(100), b"1")
    assert len(set(map(reference_of, envelopes))) == 3


def test_entries_beyond_the_limit_push_out_the_least_recently_used(kms):
    """A keyring of very many tenants stays small."""
    keyring = Keyring(kms, cache=CachePolicy(max_entries=2))
    for tenant in (1, 2, 1, 3):
        seal(keyring, b"a", pairs=of_tenant(tenant))
    with kms.expect():
        seal(keyring, b"a", pairs=of_tenant(1))
        seal(keyring, b"a", pairs=of_tenant(3))
    with kms.expect(generate_data_key=1):
        seal(keyring, b"a", pairs=of_tenant(2))


def test_a_pushed_out_key_cannot_be_used_any_more(kms):
    """Also by a reader that still holds it."""
    envelopes = {n: seal(Keyring(kms), b"a", pairs=of_tenant(n))[0] for n in (1, 2)}
    keyring = Keyring(kms, cache=CachePolicy(max_entries=1))
    held = keyring.opening_key(of_tenant(1), reference_of(envelopes[1]))
    keyring.opening_key(of_tenant(2), reference_of(envelopes[2]))
    assert held.cipher is None
    assert not held.usable()


def test_forgotten_keys_cannot_be_used_any_more(kms):
    """After an incident nothing opens without asking the KMS again."""
    keyring = Keyring(kms)
    (envelope,) = seal(keyring, b"a")
    held = keyring.opening_key(PAIRS, reference_of(envelope))
    keyring.forget()
    assert held.cipher is None
    assert not held.usable()
    with kms.expect(generate_data_key=1, unwrap=1):
        seal(keyring, b"a")
        open_one(keyring, envelope)


@pytest.mark.parametrize("use", ["seal", "open"])
def test_a_key_that_arrives_after_forget_serves_once_and_is_not_kept(use, local):
    """Whoever forgets, because a role was revoked, must not be overtaken by a call in flight."""
    pausing = PausingKms(local)
    pausing.resume.set()
    envelope = seal(Keyring(pausing), b"x")[0]
    pausing.resume.clear()
    pausing.entered.clear()
    keyring = Keyring(pausing)
    call = (lambda: seal(keyring, b"x")) if use == "seal" else (lambda: open_one(keyring, envelope))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call)
        assert pausing.entered.wait(30)
        keyring.forget()
        pausing.resume.set()
        assert first.result(30)

    before = pausing.total
    call()

    assert pausing.total == before + 1


def test_a_disabled_kms_key_stops_a_keyring_at_the_age_limit(kms, local, clock):
    """This is how long a revocation takes to arrive."""
    keyring = Keyring(kms, cache=CachePolicy.strict(), clock=clock)
    (envelope,) = seal(keyring, b"a")
    open_one(keyring, envelope)
    local.disable()
    assert open_one(keyring, envelope) == b"a"
    clock.now += 30
    with pytest.raises(KeyStateError):
        open_one(keyring, envelope)
    with pytest.raises(KeyStateError):
        seal(keyring, b"a")


def test_threads_that_miss_at_once_share_one_data_key(local):
    """A cold start is one call, not one a thread."""
    kms = PausingKms(local)
    keyring = Keyring(kms)
    results = through_one_flight(kms, lambda: reference_of(seal(keyring, b"a")[0]))
    assert kms.calls == {"generate_data_key": 1}
    assert len(set(results)) == 1


def test_threads_that_miss_at_once_share_one_unwrap(local):
    """As for sealing."""
    (envelope,) = seal(Keyring(local), b"a")
    kms = PausingKms(local)
    keyring = Keyring(kms)
    assert through_one_flight(kms, lambda: open_one(keyring, envelope)) == [b"a"] * THREADS
    assert kms.calls == {"unwrap": 1}


def test_the_failure_of_the_one_call_reaches_every_thread(local):
    """A KMS in trouble is not asked once more by each thread; afterwards it is asked again."""
    failure = KeyServiceUnavailableError("throttled")
    kms = PausingKms(local, failure)
    keyring = Keyring(kms)
    assert through_one_flight(kms, lambda: seal(keyring, b"a")) == [failure] * THREADS
    assert kms.calls == {"generate_data_key": 1}

    kms.failure = None
    with kms.expect(generate_data_key=1):
        seal(keyring, b"a")


def test_an_interrupt_of_the_one_call_is_not_shared(local):
    """Ctrl-C stops the thread that it hits; another one makes the call."""

    class InterruptedOnce(CountingKms):
        def generate_data_key(self, context):
            made = super().generate_data_key(context)
            if self.total == 1:
                raise KeyboardInterrupt
            return made

    keyring = Keyring(InterruptedOnce(local))
    with pytest.raises(KeyboardInterrupt):
        seal(keyring, b"a")
    assert len(seal(keyring, b"a")) == 1


def test_threads_together_stay_within_the_messages(kms):
    """The budget is booked before it is used."""
    keyring = Keyring(kms, cache=CachePolicy(max_messages=10))
    results = in_threads(lambda: [seal(keyring, b"a", b"b", b"c") for _ in range(20)])
    references = [
        reference_of(envelope) for batches in results for batch in batches for envelope in batch
    ]
    assert len(references) == THREADS * 20 * 3
    assert max(map(references.count, set(references))) <= 10


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
# Python 3.12 and later warn of what is tested here.
with_threads = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@forking
@with_threads
def test_a_child_process_opens_with_the_keys_that_it_inherited(kms):
    """Preloading workers ask once."""
    keyring = Keyring(kms)
    (envelope,) = seal(keyring, b"a")
    open_one(keyring, envelope)

    def child():
        with kms.expect():
            return open_one(keyring, envelope) == b"a"

    assert exit_code_of_child(child) == 0


@forking
@with_threads
def test_a_child_process_seals_with_a_data_key_of_its_own(kms):
    """A hundred children with one key would have its budget a hundred times."""
    keyring = Keyring(kms, cache=CachePolicy(max_messages=3))
    before = reference_of(seal(keyring, b"a")[0])
    (held,) = keyring._sealing._entries.values()

    def child():
        with kms.expect(generate_data_key=1):
            own = {reference_of(envelope) for envelope in seal(keyring, b"b", b"c")}
        return before not in own and held.cipher is None and not held.usable()

    assert exit_code_of_child(child) == 0
    with kms.expect():
        assert reference_of(seal(keyring, b"d")[0]) == before


@forking
@with_threads
def test_a_fork_in_the_middle_of_a_call_does_not_leave_the_child_waiting(local):
    """The thread that was making the call exists in the parent only."""
    kms = PausingKms(local)
    keyring = Keyring(kms)
    thread = threading.Thread(target=lambda: seal(keyring, b"a"))
    thread.start()
    assert kms.entered.wait(30)

    def child():
        kms.resume.set()
        return len(seal(keyring, b"b")) == 1

    code = exit_code_of_child(child)
    kms.resume.set()
    thread.join()
    assert code == 0


@forking
@with_threads
def test_a_fork_while_a_key_is_being_booked_does_not_leave_the_child_waiting(kms):
    """A lock that another thread held at the fork is free in the child."""
    booking, resume = threading.Event(), threading.Event()
    looks: list[int] = []

    def clock():
        if threading.current_thread() is thread:
            looks.append(1)
            # The first look decides that the key is usable, the second one books it.
            if len(looks) == 2:
                booking.set()
                resume.wait(30)
        return 1_000.0

    keyring = Keyring(kms, clock=clock)
    thread = threading.Thread(target=lambda: seal(keyring, b"b"))
    seal(keyring, b"a")
    thread.start()
    assert booking.wait(30)
    code = exit_code_of_child(lambda: len(seal(keyring, b"c")) == 1, seconds=2)
    resume.set()
    thread.join()
    assert code == 0


def test_an_unknown_kms_key_is_a_matter_of_configuration(kms, tmp_path):
    """Said before any call: the data key is not sent to a key that did not wrap it."""
    (envelope,) = seal(Keyring(kms), b"a")
    other = CountingKms(LocalKms.create(tmp_path / "other.json"))
    with kms.expect(), other.expect(), pytest.raises(ConfigurationError, match="unwrap_only"):
        open_one(Keyring(other), envelope)
    # An ARN names one key for ever: only an alias has to be looked up anew.
    assert other.inquiries == {}


def test_one_key_is_no_list_of_keys(kms):
    """The characters of a URI would be taken for keys."""
    with pytest.raises(ConfigurationError, match="takes a list of KMS keys"):
        Keyring(kms, unwrap_only="local:///k.json")


def test_a_key_listed_as_unwrap_only_opens_and_never_seals(kms, tmp_path):
    """This is how a keyring moves to a new KMS key."""
    (envelope,) = seal(Keyring(kms), b"a")
    new = CountingKms(LocalKms.create(tmp_path / "new.json"))
    keyring = Keyring(new, unwrap_only=[kms])
    with kms.expect(unwrap=1), new.expect(generate_data_key=1):
        assert open_one(keyring, envelope) == b"a"
        seal(keyring, b"b")


def test_pairs_of_the_keyring_have_to_be_the_same_for_opening(kms):
    """Production cannot open what staging sealed."""
    (envelope,) = seal(Keyring(kms, context={"env": "staging"}), b"a")
    assert open_one(Keyring(kms, context={"env": "staging"}), envelope) == b"a"
    with pytest.raises(WrongCellError):
        open_one(Keyring(kms, context={"env": "prod"}), envelope)


def test_a_scope_column_named_as_a_pair_of_the_keyring_is_refused(kms):
    """One of both would hide the other."""
    keyring = Keyring(kms, context={"tenant_id": "all"})
    with kms.expect(), pytest.raises(ConfigurationError, match="tenant_id"):
        seal(keyring, b"a", pairs=of_tenant(1))


def test_names_of_pairs_that_differ_by_case_alone_are_refused(kms):
    """Condition keys of IAM have no case: no policy could allow both values."""
    with pytest.raises(ConfigurationError, match=r"\['App', 'app'\].*rename"):
        Keyring(kms, context={"App": "a", "env": "prod", "app": "b"})
    with kms.expect(), pytest.raises(ConfigurationError, match=r"\['Tenant_ID', 'tenant_id'\]"):
        seal(Keyring(kms, context={"Tenant_ID": "all"}), b"a", pairs=of_tenant(1))
    with kms.expect(), pytest.raises(ConfigurationError, match="rename"):
        Keyring(kms).context_of((("Region", "a"), ("region", "b")))


@pytest.mark.parametrize("name", ["", "kmsenv:table", "KMSENV:x", "aws:x"])
def test_reserved_names_of_pairs_are_refused(kms, name):
    """They belong to the library and to AWS."""
    with pytest.raises(ConfigurationError, match="reserved"):
        Keyring(kms, context={name: "x"})


def test_another_data_key_than_the_committed_one_is_refused(kms):
    """A KMS that answers with another key cannot make a value open to something else."""
    keyring = Keyring(kms)
    one, other = (reference_of(seal(keyring, b"a", pairs=of_tenant(n))[0]) for n in (1, 2))
    mixed = InlineReference(one.fingerprint, one.material_hint, other.commitment, one.wrapped)
    with pytest.raises(WrongCellError, match="commit"):
        keyring.opening_key(of_tenant(1), mixed)


def test_the_plaintext_of_a_data_key_is_overwritten(local):
    """Only what is derived from it stays."""
    seen: list[GeneratedDataKey] = []

    class WatchedKms(CountingKms):
        def generate_data_key(self, context):
            seen.append(super().generate_data_key(context))
            return seen[-1]

    seal(Keyring(WatchedKms(local)), b"a")
    assert seen[0].plaintext == bytes(32)


def test_a_data_key_of_another_length_is_refused_and_overwritten(local):
    """A third party's KMS may be wrong."""
    short = bytearray(b"x" * 16)

    class ShortKms(CountingKms):
        def generate_data_key(self, context):
            made = super().generate_data_key(context)
            return GeneratedDataKey(short, made.wrapped, made.key_arn, made.material_id)

    with pytest.raises(KeyServiceError, match="16 bytes instead of 32"):
        seal(Keyring(ShortKms(local)), b"a")
    assert short == bytes(16)


def test_a_keyring_is_not_pickled(kms):
    """Its data keys would travel with it."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Keyring(kms))


def test_reprs_show_no_key_material(kms):
    """They end up in logs."""
    keyring = Keyring(kms)
    (envelope,) = seal(keyring, b"a")
    held = keyring.opening_key(PAIRS, reference_of(envelope))
    assert repr(held) == "<OpeningKey>"
    assert repr(held.cipher) == "<ValueCipher>"
    assert "LocalKms" in repr(keyring)
