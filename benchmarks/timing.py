"""Interleaved rounds: every contender runs once a round, so that drift hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """One number a round, in seconds or bytes."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: Samples) -> Samples:
        """The ratio of each round, so that what slowed a whole round cancels out."""
        pairs = zip(self.values, other.values, strict=True)
        return Samples(tuple(own / base for own, base in pairs))


def settle() -> None:
    """Collect, then take what is alive out of the collector's sight."""
    gc.collect()
    gc.freeze()


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes; what it returns is dropped after the clock has stopped."""
    start = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - start
    del kept
    return seconds


def interleave(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, Samples]:
    """Run all contenders ``rounds`` times; each round begins with another one."""
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(contenders[name]())
    return {name: Samples(tuple(values)) for name, values in found.items()}
