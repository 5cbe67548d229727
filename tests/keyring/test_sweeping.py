"""Data keys end by themselves: an idle process holds none."""

import gc
import json
import subprocess
import sys
import threading
import time
import weakref

import pytest

from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.keyring import CachePolicy, Keyring
from sqlalchemy_kmsenv.keyring.sweeping import Sweeper
from sqlalchemy_kmsenv.kms import LocalKms
from tests.keyring.test_cache import (
    PAIRS,
    Clock,
    exit_code_of_child,
    forking,
    of_tenant,
    open_one,
    reference_of,
    seal,
    with_threads,
)

THREAD = "sqlalchemy-kmsenv-sweeper"


@pytest.fixture
def local(tmp_path):
    """A key of its own for the test."""
    return LocalKms.create(tmp_path / "k.json")


def until(condition):
    """Wait until it holds, at most half a minute."""
    for _ in range(3000):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


def ciphers():
    """All that could seal or open in this process."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, ValueCipher)]


def test_data_keys_of_an_idle_process_are_dropped(local):
    """A worker at night, of a role that was revoked: nothing is asked for ever again."""
    (envelope,) = seal(Keyring(local), b"a")
    keyring = Keyring(local, cache=CachePolicy(max_age_seconds=0.3))
    for tenant in range(5):
        seal(keyring, b"a", pairs=of_tenant(tenant))
    held = keyring.opening_key(PAIRS, reference_of(envelope))
    sealing = keyring._sealing._shelf.entries().values()
    assert until(lambda: held.cipher is None and all(each.cipher is None for each in sealing))
    assert keyring._sealing._shelf.entries() == {}
    assert keyring._opening._shelf.entries() == {}


def test_each_data_key_is_dropped_at_its_own_time(local):
    """Those that come later do not keep the first, nor does the first take them along."""
    keyring = Keyring(local, cache=CachePolicy(max_age_seconds=1.5))
    seal(keyring, b"a", pairs=of_tenant(1))
    (first,) = keyring._sealing._shelf.entries().values()
    threading.Event().wait(0.7)
    seal(keyring, b"a", pairs=of_tenant(2))
    second = keyring._sealing._shelf.entries()[of_tenant(2)]
    assert until(lambda: first.cipher is None)
    assert until(lambda: second.cipher is None)


def test_what_is_counted_is_what_is_held(local):
    """By the keyring's own clock, whatever the machine's says."""
    clock = Clock()
    keyring = Keyring(local, clock=clock)
    (envelope,) = seal(keyring, b"a")
    open_one(keyring, envelope)
    assert (keyring.stats().held_for_sealing, keyring.stats().held_for_opening) == (1, 1)
    clock.now += 30 * 86_400
    assert (keyring.stats().held_for_sealing, keyring.stats().held_for_opening) == (0, 0)


IDLE = f"""
import json, sys, threading, time
from sqlalchemy_kmsenv import CachePolicy, Keyring, LocalKms
def running():
    return any(thread.name == {THREAD!r} for thread in threading.enumerate())
keyring = Keyring(LocalKms.create(sys.argv[1]), cache=CachePolicy(max_age_seconds=0.2))
seen = [running()]
keyring.seal_many((("a", "b"),), 2, b"", [b"i1:"], [b"x"])
seen.append(running())
ends = time.monotonic() + 20
while running() and time.monotonic() < ends:
    time.sleep(0.01)
seen.append(running())
keyring.seal_many((("a", "b"),), 2, b"", [b"i1:"], [b"x"])
seen.append(running())
print(json.dumps(seen))
"""


def test_there_is_a_thread_only_while_data_keys_are_held(tmp_path):
    """A process that encrypts nothing pays nothing; one that ends is not kept."""
    command = [sys.executable, "-c", IDLE, str(tmp_path / "k.json")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [False, True, False, True]
    assert done.stderr == ""


@forking
@with_threads
def test_what_a_child_inherits_is_dropped_there_too(local):
    """The thread of its parent is not there."""
    keyring = Keyring(local, cache=CachePolicy(max_age_seconds=1))
    (envelope,) = seal(Keyring(local), b"a")
    held = keyring.opening_key(PAIRS, reference_of(envelope))
    assert exit_code_of_child(lambda: until(lambda: held.cipher is None), seconds=40) == 0


FORKS = f"""
import json, os, sys, threading
def running():
    return any(thread.name == {THREAD!r} for thread in threading.enumerate())
seen = []
# Before the library's own: what is registered first runs last.
os.register_at_fork(before=lambda: seen.append(running()))
from sqlalchemy_kmsenv import CachePolicy, Keyring, LocalKms
keyring = Keyring(LocalKms.create(sys.argv[1]), cache=CachePolicy(max_age_seconds=1))
keyring.seal_many((("a", "b"),), 2, b"", [b"i1:"], [b"x"])
(held,) = keyring._sealing._shelf.entries().values()
seen.append(running())
child = os.fork()
if child == 0:
    os._exit(running())
seen.append(os.waitpid(child, 0)[1])
seen.append(running())
for _ in range(3000):
    if held.cipher is None:
        break
    threading.Event().wait(0.01)
seen.append(held.cipher is None)
print(json.dumps(seen))
"""


@forking
def test_there_is_no_thread_of_ours_while_a_process_forks(tmp_path):
    """A server that loads the application before it forks its workers is warned of threads."""
    command = [sys.executable, "-W", "error", "-c", FORKS, str(tmp_path / "k.json")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    # Held, forking, the child, the parent afterwards, and the data key in the end.
    assert json.loads(done.stdout) == [True, False, 0, True, True]


@forking
@with_threads
def test_a_fork_after_a_keyring_has_gone_tells_of_no_error(local, monkeypatch):
    """What is done at a fork outlives the keyring that it is for."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    seal(Keyring(local), b"a")
    gc.collect()
    assert exit_code_of_child(lambda: not told) == 0


class Store:
    """What is swept; empty after some rounds."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.done = threading.Event()

    def sweep(self):
        self.rounds -= 1
        if self.rounds:
            return 0.01
        self.done.set()
        return None


def test_a_store_is_swept_until_it_is_empty_and_others_are_not_forgotten():
    """One thread serves them all."""
    sweeper = Sweeper()
    stores = [Store(rounds) for rounds in (3, 1, 2)]
    gone = Store(1)
    reference = weakref.ref(gone)
    for store in (*stores, gone, stores[0]):
        sweeper.expect(store, 0.01)
    del gone, store
    assert all(store.done.wait(30) for store in stores)
    assert reference() is None
    assert until(lambda: not sweeper.running)
    later = Store(1)
    sweeper.expect(later, 0.01)
    assert later.done.wait(30)


def test_one_thread_waits_for_all_and_costs_nothing_meanwhile():
    """A process that holds data keys and does nothing else must not show on a meter."""
    sweeper = Sweeper()
    before = set(threading.enumerate())
    stores = [Store(1) for _ in range(5)]
    began = time.process_time()
    for store in stores:
        sweeper.expect(store, 0.6)
    assert len(set(threading.enumerate()) - before) == 1
    assert all(store.done.wait(30) for store in stores)
    assert time.process_time() - began < 0.25


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="not on this platform")
def test_the_thread_does_not_turn_while_it_waits_for_less_than_a_second():
    """By its own clock, which other work on the machine does not slow down."""
    sweeper = Sweeper()
    store = Store(1)
    sweeper.expect(store, 0.9)
    thread = sweeper._thread
    assert thread is not None
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    assert not store.done.wait(0.7)
    assert time.clock_gettime(clock) < 0.03
    assert store.done.wait(30)


def test_a_pause_ends_the_thread_and_what_is_due_comes_again():
    """Around a fork, which is in the midst of whatever waits."""
    sweeper = Sweeper()
    store = Store(1)
    sweeper.expect(store, 2.0)
    thread = sweeper._thread
    assert thread is not None
    # Until it waits for what is due.
    threading.Event().wait(0.2)
    sweeper._pause()
    assert not sweeper.running
    assert not thread.is_alive()
    sweeper._go_on()
    assert sweeper.running
    assert store.done.wait(30)
    assert until(lambda: not sweeper.running)
    sweeper._pause()
    sweeper._go_on()
    assert not sweeper.running


def test_no_cipher_outlives_its_keyring(local):
    """Neither the thread nor the counters keep one alive."""
    keyring = Keyring(local)
    # Kept, so that what other tests left behind neither counts nor goes meanwhile.
    others = ciphers()
    known = {id(each) for each in others}
    open_one(keyring, seal(keyring, b"a")[0])
    assert len([each for each in ciphers() if id(each) not in known]) == 2
    del keyring
    assert [each for each in ciphers() if id(each) not in known] == []
