"""A bounded mapping, and what leaves it when it is full."""

from __future__ import annotations

import random
import time
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.keyring.stats import Tally


class _Aging(Protocol):
    def usable(self) -> bool: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=_Aging)


class _Place(Generic[V]):
    __slots__ = ("came_at", "entry", "lot", "uses")

    def __init__(self, entry: V, lot: int) -> None:
        self.entry = entry
        self.lot = lot
        self.uses = 0
        self.came_at = time.monotonic()


class Shelf(Generic[K, V]):
    """Entries by key, in the order in which they came. Locks nothing: its owner does.

    Where one has to go, a few are drawn by lot, and the one used least of them goes:
    whoever goes round and round over more keys than there is room for still finds most
    of them, where the least recently used would always be the one that is wanted next.
    """

    def __init__(self, max_entries: int, tally: Tally) -> None:
        self._max_entries = max_entries
        self._places: dict[K, _Place[V]] = {}
        self._lots: list[K] = []
        self._forms: dict[bytes, None] = {}
        self._tally = tally

    def __len__(self) -> int:
        return len(self._places)

    def entries(self) -> dict[K, V]:
        """All entries."""
        return {key: place.entry for key, place in list(self._places.items())}

    def peek(self, key: K) -> V | None:
        """The entry, which is not used by that."""
        place = self._places.get(key)
        return None if place is None else place.entry

    def used(self, key: K) -> None:
        """Count a use of an entry that is there."""
        self._places[key].uses += 1

    def put(self, key: K, entry: V) -> list[V]:
        """Take an entry in; those that had to go, all that are over among them."""
        gone = self.take_unusable()
        if key in self._places:
            gone.append(self.take(key))
        while len(self._places) >= self._max_entries:
            gone.append(self.take(self._least_used()))
            self._tally.evictions += 1
        self._places[key] = _Place(entry, len(self._lots))
        self._lots.append(key)
        return gone

    def take(self, key: K) -> V:
        """Take an entry out."""
        place = self._places.pop(key)
        last = self._lots.pop()
        if last != key:
            self._lots[place.lot] = last
            self._places[last].lot = place.lot
        return place.entry

    def take_unusable(self) -> list[V]:
        """Take out what is over, as far as it came before all that is not."""
        # Entries of one age end in the order in which they came.
        gone = []
        while self._places:
            key, oldest = next(iter(self._places.items()))
            if oldest.entry.usable():
                break
            gone.append(self.take(key))
        return gone

    def age_seconds(self) -> float | None:
        """How long the oldest has been here; None where nothing is."""
        for place in self._places.values():
            return time.monotonic() - place.came_at
        return None

    def clear(self) -> list[V]:
        """Take everything out, and forget all forms."""
        gone = [place.entry for place in self._places.values()]
        self._places.clear()
        self._lots.clear()
        self._forms.clear()
        return gone

    def knows(self, form: bytes | None) -> bool:
        """Whether this form was learnt; no form at all needs no learning."""
        return form is None or form in self._forms

    def learn(self, form: bytes | None) -> None:
        """Remember a form, also when its entry is gone."""
        if form is None:
            return
        if len(self._forms) >= defaults.CACHE_MAX_FORMS:
            del self._forms[next(iter(self._forms))]
        self._forms[form] = None

    def _least_used(self) -> K:
        count = min(len(self._lots), defaults.CACHE_EVICTION_SAMPLE)
        drawn = random.sample(range(len(self._lots)), count)
        return min((self._lots[lot] for lot in sorted(drawn)), key=self._uses)

    def _uses(self, key: K) -> int:
        return self._places[key].uses
