"""A bounded store whose entries are made once, however many threads miss at once."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    """An entry that knows when it has been used enough, and can be made unusable."""

    def usable(self) -> bool:
        """Whether it may be handed out now."""
        ...

    def drop(self) -> None:
        """Give up the key material; whoever still holds the entry cannot use it."""
        ...

    def reset_locks(self) -> None:
        """Begin with free locks; for a child process right after a fork."""
        ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Expiring)


class FlightStore(Generic[K, V]):
    """Least recently used entries, at most ``max_entries``; concurrent misses share one flight.

    The usability of an entry is checked each time it is handed out, also when it
    comes out of another thread's flight.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.hits = 0
        """Look-ups that found a usable entry."""
        self.misses = 0
        """Those that did not, whether they made one or waited for another thread's."""
        self.reset_locks()
        _reset_after_fork(self)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The usable entry of ``key``, made by ``make`` if there is none.

        Of the threads that miss at once one calls ``make``; the others get its
        result, or the same exception.
        """
        while True:
            entry, flight, leads = self._entry_or_flight(key)
            if entry is not None:
                return entry
            if leads:
                return self._fly(key, flight, make)
            shared = flight.result()
            if shared is not None and shared.usable():
                return shared

    def discard(self, key: K, entry: V) -> None:
        """Drop ``entry`` if it still is the one of ``key``."""
        with self._lock:
            if self._entries.get(key) is entry:
                del self._entries[key]
        entry.drop()

    def clear(self) -> None:
        """Drop every entry."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            entry.drop()

    def __len__(self) -> int:
        return len(self._entries)

    def _entry_or_flight(self, key: K) -> tuple[V | None, Future[V | None], bool]:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.usable():
                self._entries.move_to_end(key)
                self.hits += 1
                return entry, Future(), False
            self.misses += 1
            if entry is not None:
                del self._entries[key]
                entry.drop()
            flight = self._flights.get(key)
            if flight is not None:
                return None, flight, False
            flight = self._flights[key] = Future()
            return None, flight, True

    def _fly(self, key: K, flight: Future[V | None], make: Callable[[], V]) -> V:
        try:
            entry = make()
        except Exception as error:
            self._land(key)
            flight.set_exception(error)
            raise
        except BaseException:
            # An interrupt is this thread's own affair: the others try themselves.
            self._land(key)
            flight.set_result(None)
            raise
        self._land(key, entry)
        flight.set_result(entry)
        return entry

    def _land(self, key: K, entry: V | None = None) -> None:
        evicted: list[V] = []
        with self._lock:
            self._flights.pop(key, None)
            if entry is not None:
                self._entries[key] = entry
                evicted = self._evict()
        for old in evicted:
            old.drop()

    def _evict(self) -> list[V]:
        # Age ends an entry even when nobody asks for it any more: the oldest are
        # looked at whenever a new one arrives.
        evicted = []
        while len(self._entries) > 1:
            key, oldest = next(iter(self._entries.items()))
            if len(self._entries) <= self._max_entries and oldest.usable():
                break
            evicted.append(oldest)
            del self._entries[key]
        return evicted

    def reset_locks(self) -> None:
        """Begin with free locks; for a child process right after a fork."""
        self._lock = threading.Lock()
        self._flights: dict[K, Future[V | None]] = {}
        for entry in self._entries.values():
            entry.reset_locks()


def _reset_after_fork(store: FlightStore[K, V]) -> None:
    # A lock held by another thread at the fork would stay held in the child for ever.
    reference = weakref.ref(store)

    def reset() -> None:
        alive = reference()
        if alive is not None:
            alive.reset_locks()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)
