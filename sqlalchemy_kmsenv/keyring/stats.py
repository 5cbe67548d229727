"""How often the data keys of a keyring were used, in numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringStats:
    """What one keyring did in this process since it was made."""

    seal_hits: int
    """Batches that found a data key in use; not values."""
    seal_misses: int
    open_hits: int
    """Look-ups that found a data key in use. A column remembers its last data keys, so most
    values need no look-up at all."""
    open_misses: int
    data_keys_made: int
    unwraps: int
    rewraps: int
    failures: Mapping[str, int]
    """Calls to the KMS that were refused or failed, by the class of the error."""
    values_sealed: int
    values_opened: int
    values_refused: int
    """Stored values that did not open where they were; the sum of ``refusals``."""
    refusals: Mapping[str, int]
    """The same by kind, in the words of ``RefusalKind``."""
    evictions: int
    """Data keys that had to make room for others before their time was over."""
    held_for_sealing: int
    """Data keys in the cache now."""
    held_for_opening: int


class Counts:
    """The numbers behind ``KeyringStats`` that are not the cache's own."""

    # No lock: CPython switches threads at calls and jumps, and there is none inside of these
    # additions. A free-threaded Python may lose one now and then.

    __slots__ = ("failures", "made", "opened", "refusals", "rewraps", "sealed", "unwraps")

    def __init__(self) -> None:
        self.made = 0
        self.unwraps = 0
        self.rewraps = 0
        self.failures: defaultdict[str, int] = defaultdict(int)
        self.sealed = 0
        self.opened = 0
        self.refusals: defaultdict[str, int] = defaultdict(int)


class Tally:
    """What one cache of data keys was asked."""

    __slots__ = ("evictions", "hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        """Look-ups that found a usable entry."""
        self.misses = 0
        """Those that did not, whether they made one or waited for another thread's."""
        self.evictions = 0
        """Usable entries that had to make room."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that is counted of a keyring; outlives it, and holds no data key."""

    counts: Counts
    sealing: Tally
    opening: Tally

    def stats(self, *, held_for_sealing: int = 0, held_for_opening: int = 0) -> KeyringStats:
        """The numbers as they are now."""
        counts = self.counts
        return KeyringStats(
            seal_hits=self.sealing.hits,
            seal_misses=self.sealing.misses,
            open_hits=self.opening.hits,
            open_misses=self.opening.misses,
            data_keys_made=counts.made,
            unwraps=counts.unwraps,
            rewraps=counts.rewraps,
            failures=dict(counts.failures),
            values_sealed=counts.sealed,
            values_opened=counts.opened,
            values_refused=sum(counts.refusals.values()),
            refusals={str(kind): number for kind, number in counts.refusals.items()},
            evictions=self.sealing.evictions + self.opening.evictions,
            held_for_sealing=held_for_sealing,
            held_for_opening=held_for_opening,
        )
