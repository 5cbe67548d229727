"""Promises that fail only beside another thread, or long after the call that broke them."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.envelope import InlineReference
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceDeniedError, KeyStateError
from sqlalchemy_kmsenv.keyring import CachePolicy, Keyring, KeyUse
from sqlalchemy_kmsenv.keyring.data_keys import SealingKey
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.kms import CountingKms, LocalKms
from tests.keyring.test_cache import PAIRS, Clock, PausingKms, of_tenant, reference_of, seal

REFERENCE = InlineReference(bytes(8), bytes(8), bytes(32), b"wrapped")


@pytest.fixture
def local(tmp_path):
    """A key of its own for the test."""
    return LocalKms.create(tmp_path / "k.json")


def sealing_key(**limits):
    """A data key that was used already, so that every further use is booked by its clock."""
    policy = CachePolicy(**limits)
    key = SealingKey(ValueCipher(bytes(32)), REFERENCE, policy, made_at=0.0, clock=lambda: 0.0)
    assert key.reserve([1])[1] == 1
    return key


class Slow(list[int]):
    """Sizes that take time between being found to fit and being booked."""

    def __init__(self, sizes):
        super().__init__(sizes)
        self.asked = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __len__(self):
        self.asked += 1
        if self.asked == 2:
            self.begun.set()
            self.go_on.wait(0.3)
        return super().__len__()


def test_two_threads_never_book_the_same_room():
    """The budget is what keeps random nonces from meeting."""
    key = sealing_key(max_messages=3)
    slow = Slow([1, 1])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(key.reserve, slow)
        assert slow.begun.wait(30)
        second = pool.submit(key.reserve, [1, 1])
        # Released at once where the second one does not wait for the first.
        second.add_done_callback(lambda _: slow.go_on.set())
        assert first.result(30)[1] + second.result(30)[1] == 2


def test_a_sealing_key_without_messages_is_not_usable():
    """It is not handed out, and not counted as held."""
    assert sealing_key(max_messages=2).usable()
    full = sealing_key(max_messages=1)
    assert not full.usable()
    for _ in range(2):
        assert full.reserve([1]) == (None, 0)


def test_a_dropped_sealing_key_has_no_cipher_and_books_nothing():
    """Whoever still holds it must not go on."""
    key = sealing_key()
    key.drop()
    assert key.cipher is None
    assert not key.usable()
    assert key.reserve([1]) == (None, 0)


def test_a_retired_sealing_key_serves_the_batch_that_it_was_made_for():
    """It came after forget(): one batch waits for it, and nothing else may use it."""
    fresh = SealingKey(
        ValueCipher(bytes(32)), REFERENCE, CachePolicy(), made_at=0.0, clock=lambda: 0.0
    )
    fresh.retire()
    assert not fresh.usable()
    assert fresh.reserve([1, 1])[1] == 2
    assert fresh.reserve([1]) == (None, 0)


def test_threads_that_wait_for_a_key_that_was_forgotten_get_another(local):
    """What forget() overtakes serves the thread that asked, not those that waited for it."""
    kms = PausingKms(local)
    keyring = Keyring(kms)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(seal, keyring, b"a")
        assert kms.entered.wait(30)
        second = pool.submit(seal, keyring, b"b")
        while keyring.stats().seal_misses < 2:
            threading.Event().wait(0.01)
        keyring.forget()
        kms.resume.set()
        one, other = reference_of(first.result(30)[0]), reference_of(second.result(30)[0])
    assert one != other
    assert kms.calls["generate_data_key"] == 2


def test_a_key_whose_budget_is_used_up_is_dropped(local):
    """It stays in nobody's memory until its age is over."""
    keyring = Keyring(local, cache=CachePolicy(max_bytes=10))
    seal(keyring, b"123456")
    (held,) = keyring._sealing._entries.values()
    seal(keyring, b"123456")
    assert held.cipher is None


def test_a_key_that_is_over_is_dropped_also_where_no_other_one_is_made(local):
    """The KMS is away, or denies: the old data key must not stay for that."""
    clock = Clock()
    envelopes = [seal(Keyring(local), b"a", pairs=of_tenant(n))[0] for n in (1, 2)]
    keyring = Keyring(local, cache=CachePolicy(max_age_seconds=30), clock=clock)
    held = []
    for tenant in (1, 2):
        reference = reference_of(envelopes[tenant - 1])
        held.append(keyring.opening_key(of_tenant(tenant), reference))
        clock.now += 1
    local.disable()
    clock.now += 29
    # Asked for by its own key, which is the second one in the order of their coming.
    with pytest.raises(KeyStateError):
        keyring.opening_key(of_tenant(2), reference_of(envelopes[1]))
    assert held[1].cipher is None


def test_threads_that_wait_for_an_unwrap_that_was_forgotten_ask_themselves(local):
    """Whoever forgets, because a key leaked, must not see it in use in another thread."""
    envelope = seal(Keyring(local), b"a")[0]
    kms = PausingKms(local)
    keyring = Keyring(kms)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(keyring.opening_key, PAIRS, reference_of(envelope))
        assert kms.entered.wait(30)
        second = pool.submit(keyring.opening_key, PAIRS, reference_of(envelope))
        while keyring.stats().open_misses < 2:
            threading.Event().wait(0.01)
        keyring.forget()
        kms.resume.set()
        assert not first.result(30).usable()
        assert second.result(30).usable()
    assert kms.calls == {"unwrap": 2}


class Entry:
    """What a store holds."""

    def __init__(self):
        self.dropped = self.over = False

    def usable(self):
        return not (self.dropped or self.over)

    def drop(self):
        self.dropped = True

    def retire(self):
        self.over = True


def test_an_entry_lands_under_the_lock():
    """Or clear() in another thread may run between its parts, and miss what it must drop."""
    store: FlightStore[str, Entry] = FlightStore(9)
    made, landed = threading.Event(), threading.Event()

    def make():
        made.set()
        # Until the test has the lock.
        assert locked.wait(30)
        return Entry()

    locked = threading.Event()

    def get():
        store.get("a", make)
        landed.set()

    thread = threading.Thread(target=get)
    thread.start()
    assert made.wait(30)
    with store._lock:
        locked.set()
        assert not landed.wait(0.2)
        assert store._shelf.entries() == {}
    thread.join(30)
    assert landed.is_set()
    assert list(store._shelf.entries()) == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        lambda store, _: store.clear(),
        lambda store, _: store.sweep(),
        lambda store, held: store.discard("a", held),
        lambda store, _: store.discard_where(lambda *_: True),
        lambda store, _: store.get("a", Entry),
        lambda store, _: store.get("b", Entry),
    ],
    ids=["clear", "sweep", "discard", "discard where", "get held", "get new"],
)
def test_whatever_looks_at_what_is_held_does_so_under_the_lock(change):
    """What another thread is in the midst of must not be dropped half, or handed out."""
    store: FlightStore[str, Entry] = FlightStore(9)
    held = store.get("a", Entry)
    with ThreadPoolExecutor(1) as pool:
        with store._lock:
            done = pool.submit(change, store, held)
            assert not wait([done], timeout=0.2).done
            assert store._shelf.peek("a") is held
        done.result(30)


def test_what_lands_twice_is_held_once_and_the_other_is_dropped():
    """Two forms of one data key: an entry that nobody holds could not be forgotten."""
    store: FlightStore[str, Entry] = FlightStore(9)
    first, second = Entry(), Entry()
    assert store.get("a", lambda: first, b"one") is first
    assert store.get("a", lambda: second, b"other") is first
    assert second.dropped
    assert store.get("a", Entry, b"other") is first
    store.discard("a", second)
    assert not first.dropped
    store.discard_where(lambda key, entry: key == "a" and entry is first)
    assert first.dropped
    assert len(store) == 0


def test_what_ends_while_another_form_is_on_its_way_is_replaced():
    """Whoever waited for the other form must get an entry that it can use."""
    store: FlightStore[str, Entry] = FlightStore(9)
    first, second = Entry(), Entry()
    store.get("a", lambda: first, b"one")

    def make():
        first.over = True
        return second

    assert store.get("a", make, b"other") is second
    assert store._shelf.entries() == {"a": second}
    store.discard("a", second)
    assert second.dropped
    assert store._shelf.entries() == {}


def test_an_interrupt_leaves_the_call_to_those_that_wait():
    """Ctrl-C in one thread is no answer for the others."""
    store: FlightStore[str, Entry] = FlightStore(9)
    begun, go_on = threading.Event(), threading.Event()

    def interrupted():
        begun.set()
        assert go_on.wait(30)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.get, "a", interrupted)
        assert begun.wait(30)
        second = pool.submit(store.get, "a", Entry)
        while store.tally.misses < 2:
            threading.Event().wait(0.01)
        go_on.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(30)
        assert second.result(30).usable()


def test_a_failure_after_clear_is_the_failure():
    """Nothing is left of its flight that could be ended."""
    store: FlightStore[str, Entry] = FlightStore(9)
    later = Entry()

    def failing():
        store.clear()
        assert store.get("a", lambda: later) is later
        raise ValueError("the call failed")

    with pytest.raises(ValueError, match="the call failed"):
        store.get("a", failing)
    assert store.get("a", failing) is later


def test_a_refused_unwrap_is_told_with_the_material_that_the_header_names(local):
    """An auditor wants to know which rotation a denied caller was after."""
    told: list[KeyUse] = []
    envelope = seal(Keyring(local), b"a")[0]

    class Denying(CountingKms):
        def unwrap(self, wrapped, context, *, key_arn):
            raise KeyServiceDeniedError("denied")

    keyring = Keyring(Denying(local), audit=told.append)
    with pytest.raises(KeyServiceDeniedError):
        keyring.opening_key(PAIRS, reference_of(envelope))
    (use,) = told
    assert (use.operation, use.key_arn) == ("unwrap", local.resolve())
    assert use.material == local.material_ids[-1][:16]


@pytest.mark.parametrize("pairs", [{"a": 5}, {5: "a"}, {"a": None}, {"a": b"b"}])
def test_pairs_that_are_no_text_are_refused(local, pairs):
    """The KMS takes text only, and says so at the first call instead of here."""
    with pytest.raises(ConfigurationError, match="takes text for names and values"):
        Keyring(local, context=pairs)


def test_a_limit_without_a_ceiling_is_refused_without_one():
    """'At most inf' helps nobody."""
    with pytest.raises(ConfigurationError, match=r"more than 0; all"):
        CachePolicy(max_entries=0)
    with pytest.raises(ConfigurationError, match=r"more than 0 and at most 4,294,967,296; all"):
        CachePolicy(max_messages=0)
