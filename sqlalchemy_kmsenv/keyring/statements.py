"""Which data keys the statement that this thread executed last has opened values with.

An audit hook is told of each data key once a statement. A value is opened deep inside
of a result, which does not say what statement it belongs to; the thread does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable

_MAX_REMEMBERED = 4096


class _Thread(threading.local):
    def __init__(self) -> None:
        self.seen: set[Hashable] = set()


_THREAD = _Thread()


def next_statement() -> None:
    """From now on this thread opens values for another statement."""
    if _THREAD.seen:
        _THREAD.seen = set()


def seen_by_statement() -> set[Hashable]:
    """What was told already; to add to."""
    seen = _THREAD.seen
    if len(seen) >= _MAX_REMEMBERED:
        # Told again rather than remembered without end.
        seen = _THREAD.seen = set()
    return seen


def clock_of_statement(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that stands at the end of all time in every other statement or thread.

    Whoever remembers a data key together with such a clock asks for it again, so
    that the use is told.
    """
    seen = _THREAD.seen

    def now() -> float:
        return clock() if _THREAD.seen is seen else math.inf

    return now
