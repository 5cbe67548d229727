"""Which data keys the statement that this task executed last has opened values with.

An audit hook is told of each data key once a statement. A value is opened deep inside
of a result, which does not say what statement it belongs to; the thread does, or the
task where several share the thread of an event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from contextvars import ContextVar

_MAX_REMEMBERED = 4096

_SEEN: ContextVar[set[Hashable] | None] = ContextVar("sqlalchemy_kmsenv.statement", default=None)


def next_statement() -> None:
    """From now on this task opens values for another statement."""
    # Always a new set: a task begins with the one of the task that made it.
    _SEEN.set(set())


def seen_by_statement() -> set[Hashable]:
    """What was told already; to add to."""
    seen = _SEEN.get()
    if seen is None or len(seen) >= _MAX_REMEMBERED:
        # Told again rather than remembered without end.
        seen = set()
        _SEEN.set(seen)
    return seen


def clock_of_statement(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that stands at the end of all time in every other statement, task or thread.

    Whoever remembers a data key together with such a clock asks for it again, so
    that the use is told.
    """
    seen = _SEEN.get()

    def now() -> float:
        return clock() if _SEEN.get() is seen else math.inf

    return now
