"""A bounded store whose entries are made once, however many threads miss at once."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from sqlalchemy_kmsenv.keyring.shelf import Shelf
from sqlalchemy_kmsenv.keyring.stats import Tally
from sqlalchemy_kmsenv.keyring.sweeping import SWEEPER


class Expiring(Protocol):
    """An entry that knows when it has been used enough, and can be made unusable."""

    def usable(self) -> bool:
        """Whether it may be handed out now."""
        ...

    def drop(self) -> None:
        """Give up the key material; whoever still holds the entry cannot use it."""
        ...

    def retire(self) -> None:
        """Serve once more whoever has just got it, and nobody after that."""
        ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Expiring)


class FlightStore(Generic[K, V]):
    """At most ``max_entries`` entries; concurrent misses of one key share one flight.

    The usability of an entry is checked each time it is handed out, also when it
    comes out of another thread's flight. With ``lifetime_seconds`` it is dropped that
    long after it came, whether or not anybody uses this store again. What a child
    process inherits is dropped there unless the store is ``shared_with_children``.
    """

    def __init__(
        self,
        max_entries: int,
        *,
        lifetime_seconds: float | None = None,
        shared_with_children: bool = True,
    ) -> None:
        self.tally = Tally()
        self._shelf: Shelf[K, V] = Shelf(max_entries, self.tally)
        self._lifetime_seconds = lifetime_seconds
        self._shared_with_children = shared_with_children
        self._begin()
        _begin_after_fork(self)

    def get(self, key: K, make: Callable[[], V], form: bytes | None = None) -> V:
        """The usable entry of ``key``, made by ``make`` if there is none.

        Of the threads that miss at once one calls ``make``; the others get its
        result, or the same exception. Where there are several ways to make an entry,
        ``form`` names this one: an entry is handed out only to those whose way has
        once led to an entry of that key.
        """
        while True:
            entry, flight, leads = self._entry_or_flight(key, form)
            if entry is not None:
                return entry
            assert flight is not None  # noqa: S101  there is either
            if leads:
                return self._fly(key, form, flight, make)
            shared = flight.result()
            if shared is not None and shared.usable():
                return shared

    def discard(self, key: K, entry: V) -> None:
        """Drop ``entry`` if it still is the one of ``key``."""
        with self._lock:
            if self._shelf.peek(key) is entry:
                self._shelf.take(key)
        entry.drop()

    def discard_where(self, unwanted: Callable[[K, V], bool]) -> None:
        """Drop the entries of which ``unwanted`` says so."""
        with self._lock:
            entries = self._shelf.entries()
            dropped = [self._shelf.take(key) for key in entries if unwanted(key, entries[key])]
        for entry in dropped:
            entry.drop()

    def clear(self) -> None:
        """Drop every entry; one that is being made is not kept when it arrives."""
        with self._lock:
            dropped = self._shelf.clear()
            self._flights.clear()
        for entry in dropped:
            entry.drop()

    def sweep(self) -> float | None:
        """Drop what is over; in how many seconds more will be, None where nothing is left."""
        with self._lock:
            dropped = self._shelf.take_unusable()
            age = self._shelf.age_seconds()
        for entry in dropped:
            entry.drop()
        if age is None or self._lifetime_seconds is None:
            return None
        # By another clock than this machine's what is left may be late: not at once again.
        seconds = self._lifetime_seconds - age
        return seconds if seconds > 0 else self._lifetime_seconds

    @property
    def _entries(self) -> dict[K, V]:
        """What is held, once all that is over has been dropped."""
        self.sweep()
        return self._shelf.entries()

    def __len__(self) -> int:
        return len(self._entries)

    def _entry_or_flight(
        self, key: K, form: bytes | None
    ) -> tuple[V | None, Future[V | None] | None, bool]:
        with self._lock:
            entry = self._shelf.peek(key)
            usable = entry is not None and entry.usable()
            if usable and self._shelf.knows(form):
                self.tally.hits += 1
                self._shelf.used(key)
                return entry, None, False
            self.tally.misses += 1
            if entry is not None and not usable:
                self._shelf.take(key)
                entry.drop()
            flight = self._flights.get((key, form))
            if flight is not None:
                return None, flight, False
            flight = self._flights[key, form] = Future()
            return None, flight, True

    def _fly(
        self, key: K, form: bytes | None, flight: Future[V | None], make: Callable[[], V]
    ) -> V:
        try:
            entry = make()
        except Exception as error:
            self._end(key, form, flight)
            flight.set_exception(error)
            raise
        except BaseException:
            # An interrupt is this thread's own affair: the others try themselves.
            self._end(key, form, flight)
            flight.set_result(None)
            raise
        entry = self._land(key, form, flight, entry)
        flight.set_result(entry)
        return entry

    def _end(self, key: K, form: bytes | None, flight: Future[V | None]) -> None:
        with self._lock:
            # clear() may have come in between, and another flight of the same begun.
            if self._flights.get((key, form)) is flight:
                del self._flights[key, form]

    def _land(self, key: K, form: bytes | None, flight: Future[V | None], entry: V) -> V:
        dropped: list[V] = []
        with self._lock:
            overtaken = self._flights.pop((key, form), None) is not flight
            present = self._shelf.peek(key)
            if overtaken:
                # clear() came in between: its caller waits for nothing, and keeps nothing.
                entry.retire()
            elif present is not None and present.usable():
                # Another form of the same; two entries of one key could not both be dropped.
                self._shelf.learn(form)
                dropped.append(entry)
                entry = present
            else:
                self._shelf.learn(form)
                dropped = self._shelf.put(key, entry)
        for old in dropped:
            old.drop()
        if self._lifetime_seconds is not None and not overtaken:
            SWEEPER.expect(self, self._lifetime_seconds)
        return entry

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[K, bytes | None], Future[V | None]] = {}

    def begin_in_child(self) -> None:
        """Begin with free locks, and without what is the parent's alone."""
        # A lock held by another thread at the fork would stay held in the child for ever.
        self._begin()
        if not self._shared_with_children:
            self.clear()
        seconds = self.sweep()
        if seconds is not None:
            SWEEPER.expect(self, seconds)


def _begin_after_fork(store: FlightStore[K, V]) -> None:
    reference = weakref.ref(store)

    def begin() -> None:
        alive = reference()
        if alive is not None:
            alive.begin_in_child()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin)
