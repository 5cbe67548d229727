"""What was asked of the server: a count, and a log like CloudTrail's."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy_kmsenv.testing.names import api_name, method_name

_KEPT_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """One request: no plaintext and no ciphertext, but the context, as CloudTrail has it."""

    operation: str
    principal: str | None
    """The name; None where nobody is known by that access key."""
    region: str
    key: str | None
    """What the request called the key; of ReEncrypt the source, where it was named."""
    context: Mapping[str, str]
    request_id: str
    code: str | None
    """The error code; None for success. Faults without an answer have their own name."""


class Journal:
    """Counts and keeps requests; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._events: deque[Event] = deque(maxlen=_KEPT_EVENTS)

    @property
    def calls(self) -> Counter[str]:
        """Requests so far by boto3 method, each try of a client by itself. A copy."""
        with self._lock:
            return self._calls.copy()

    @property
    def events(self) -> tuple[Event, ...]:
        """The last ten thousand requests, oldest first."""
        with self._lock:
            return tuple(self._events)

    def count(self, operation: str) -> None:
        """Note that a request came."""
        with self._lock:
            self._calls[method_name(operation)] += 1

    def add(self, event: Event) -> None:
        """Note how it ended."""
        with self._lock:
            self._events.append(event)

    @contextmanager
    def expect(self, **calls: int) -> Iterator[None]:
        """Require exactly these requests, and no others, inside the ``with`` block.

        Operations are named like boto3's methods: ``expect(generate_data_key=1)``.

        Raises:
            AssertionError: other numbers were seen; it names both. An exception of
                the block itself goes before it.
            ConfigurationError: a name is no operation.
        """
        expected = Counter({method_name(api_name(name)): number for name, number in calls.items()})
        before = self.calls
        yield
        seen = self.calls
        seen.subtract(before)
        differences = [
            f"{name}: expected {expected[name]}, seen {seen[name]}"
            for name in sorted({*expected, *seen})
            if expected[name] != seen[name]
        ]
        if differences:
            raise AssertionError("KMS calls differ: " + "; ".join(differences))
