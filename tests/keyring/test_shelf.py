"""What stays in a cache that is full."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlalchemy_kmsenv.keyring import CachePolicy, Keyring
from sqlalchemy_kmsenv.keyring.shelf import Shelf
from sqlalchemy_kmsenv.keyring.stats import Tally
from sqlalchemy_kmsenv.kms import CountingKms, LocalKms
from tests.keyring.test_cache import of_tenant, open_one, seal

STEPS = st.sampled_from(["put", "take", "use", "end"])


class Entry:
    """One that a test ends."""

    def __init__(self):
        self.over = False

    def usable(self):
        return not self.over


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "use", "end"]), st.integers(0, 8)), max_size=60
    ),
)
def test_a_shelf_is_a_bounded_mapping(size, steps):
    """Whatever is put, taken, used or ended: what it holds is what was put last and not taken."""
    shelf: Shelf[int, Entry] = Shelf(size, Tally())
    there: dict[int, Entry] = {}
    for step, key in steps:
        if step == "put":
            entry = Entry()
            gone = shelf.put(key, entry)
            there[key] = entry
            there = {key: each for key, each in there.items() if each not in gone}
            assert there[key] is entry
        elif key in there and step == "take":
            assert shelf.take(key) is there.pop(key)
        elif key in there and step == "use":
            shelf.used(key)
        elif key in there:
            there[key].over = True
        assert shelf.entries() == there
        assert len(shelf) == len(there) <= size
        assert all(shelf.peek(key) is entry for key, entry in there.items())
        assert sorted(shelf._lots) == sorted(there)
    assert set(shelf.clear()) == set(there.values())
    assert len(shelf) == 0
    assert shelf.age_seconds() is None


def test_what_is_over_makes_room_first():
    """A data key that ended must not push out one that is in use."""
    tally = Tally()
    shelf: Shelf[int, Entry] = Shelf(2, tally)
    first, second = Entry(), Entry()
    shelf.put(1, first)
    shelf.put(2, second)
    first.over = True
    assert shelf.put(3, Entry()) == [first]
    assert tally.evictions == 0
    assert len(shelf.put(4, Entry())) == 1
    assert tally.evictions == 1


def test_age_is_that_of_the_oldest():
    """By it a data key is dropped at its own time."""
    before = time.monotonic()
    shelf: Shelf[int, Entry] = Shelf(2, Tally())
    shelf.put(1, Entry())
    time.sleep(0.01)
    shelf.put(2, Entry())
    age = shelf.age_seconds()
    assert age is not None
    assert 0.01 <= age <= time.monotonic() - before


@pytest.mark.parametrize("more", [1, 20])
def test_going_round_over_more_scopes_than_fit_still_finds_most(tmp_path, more):
    """A verification of 1,001 tenants asked for each of them again in every round."""
    kms = CountingKms(LocalKms.create(tmp_path / "k.json"))
    size, rounds = 100, 6
    tenants = range(size + more)
    envelopes = [seal(Keyring(kms), b"a", pairs=of_tenant(each))[0] for each in tenants]
    keyring = Keyring(kms, cache=CachePolicy(max_entries=size))
    before = kms.calls["unwrap"]
    for _ in range(rounds):
        for tenant in tenants:
            open_one(keyring, envelopes[tenant], pairs=of_tenant(tenant))
    stats = keyring.stats()
    calls = kms.calls["unwrap"] - before
    # The least recently used one gone: all of them. The best that is possible: 100 + 5 * more.
    assert calls < len(tenants) + (rounds - 1) * (3 * more + 10)
    assert stats.evictions == calls - size
    assert stats.held_for_opening == size


def test_scopes_in_use_survive_a_scan(tmp_path):
    """A job that looks at every tenant once must not make the busy ones cold."""
    kms = CountingKms(LocalKms.create(tmp_path / "k.json"))
    keyring = Keyring(kms, cache=CachePolicy(max_entries=40))
    envelopes = [seal(Keyring(kms), b"a", pairs=of_tenant(each))[0] for each in range(300)]
    busy = range(20)

    def use(tenant):
        open_one(keyring, envelopes[tenant], pairs=of_tenant(tenant))

    for _ in range(5):
        for tenant in busy:
            use(tenant)
    for tenant in range(20, 300):
        use(tenant)
    before = kms.calls["unwrap"]
    for tenant in busy:
        use(tenant)
    assert kms.calls["unwrap"] - before <= 10
