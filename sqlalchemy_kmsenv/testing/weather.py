"""Weather: what goes wrong between a client and its KMS, on purpose and repeatably.

Whether a rule of some probability strikes is drawn from the seed, the operation and the
number of the request of that operation: the third Decrypt fares the same in every run,
whatever other threads ask for meanwhile.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.lookup import Lag
from sqlalchemy_kmsenv.testing.refusals import Refusal

ANY = "*"
"""Stands for every operation."""


class Fault(StrEnum):
    """What may happen to a request instead of an answer."""

    THROTTLING = "throttling"
    """``ThrottlingException``, as over a quota."""
    INTERNAL = "internal"
    """``KMSInternalException``."""
    KEY_UNAVAILABLE = "key-unavailable"
    """``KeyUnavailableException``."""
    DEPENDENCY_TIMEOUT = "dependency-timeout"
    """``DependencyTimeoutException``."""
    TIMEOUT = "timeout"
    """Never an answer; the connection stays open until the client gives up."""
    RESET = "reset"
    """The connection is reset before anything is done."""
    LOST_ANSWER = "lost-answer"
    """All is done, and the connection is reset instead of an answer."""


_REFUSALS = {
    Fault.THROTTLING: ("ThrottlingException", "Rate exceeded"),
    Fault.INTERNAL: ("KMSInternalException", "An internal error, made on purpose."),
    Fault.KEY_UNAVAILABLE: ("KeyUnavailableException", "The key is not available, on purpose."),
    Fault.DEPENDENCY_TIMEOUT: ("DependencyTimeoutException", "A time-out, made on purpose."),
}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens to one request."""

    delay_seconds: float = 0.0
    fault: Fault | None = None

    def refusal(self) -> Refusal | None:
        """The error answer, where the fault is one."""
        return Refusal(*_REFUSALS[self.fault]) if self.fault in _REFUSALS else None


@dataclass(slots=True)
class _Rule:
    operation: str
    probability: float
    fault: Fault | None = None
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    left: int | None = None
    """How often it may still strike; None for ever."""


@dataclass(slots=True)
class _Quota:
    """A bucket of tokens, full at first, refilled evenly."""

    operations: frozenset[str]
    per_second: float
    tokens: float
    filled_at: float

    def take(self, now: float) -> bool:
        added = max(0.0, now - self.filled_at) * self.per_second
        self.tokens = min(max(1.0, self.per_second), self.tokens + added)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _State:
    rules: list[_Rule] = field(default_factory=list)
    quotas: list[_Quota] = field(default_factory=list)
    lag: Lag = field(default_factory=Lag)
    rotation_seconds: float = 0.0


class Weather:
    """Faults, delays, quotas and late knowledge of one server; fine weather at first.

    Operations are named as in the API (``GenerateDataKey``) or as in boto3
    (``generate_data_key``); ``"*"`` means every one. Rules add up: delays are summed,
    and the first fault that strikes, in the order of the calls, is what happens.
    """

    def __init__(
        self, seed: int, clock: Callable[[], float], name_of: Callable[[str], str]
    ) -> None:
        self._seed = seed
        self._clock = clock
        self._name_of = name_of
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._state = _State()

    @property
    def late(self) -> Lag:
        """For how long changes are not seen."""
        return self._state.lag

    @property
    def rotation_seconds(self) -> float:
        """How long an on-demand rotation is in progress."""
        return self._state.rotation_seconds

    def fault(
        self,
        kind: Fault | str,
        operation: str = ANY,
        *,
        probability: float = 1.0,
        times: int | None = None,
    ) -> None:
        """Let ``kind`` happen to requests of an operation, ``times`` at most.

        Raises:
            ConfigurationError: the fault, operation or probability is none.
        """
        rule = _Rule(self._name(operation), _checked(probability), _kind(kind), left=times)
        self._add(rule)

    def delay(
        self,
        seconds: float,
        operation: str = ANY,
        *,
        jitter_seconds: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        """Let requests wait ``seconds``, and up to ``jitter_seconds`` more.

        Raises:
            ConfigurationError: the operation, probability or a time is impossible.
        """
        if seconds < 0 or jitter_seconds < 0:
            raise ConfigurationError("a delay is refused: seconds must not be negative")
        name = self._name(operation)
        self._add(_Rule(name, _checked(probability), None, seconds, jitter_seconds))

    def quota(self, per_second: float, *operations: str) -> None:
        """Throttle these operations together (all, without any) beyond a rate.

        Raises:
            ConfigurationError: an operation is none, or the rate is not above zero.
        """
        if not per_second > 0:
            raise ConfigurationError("a quota is refused: it must be above zero a second")
        names = frozenset(map(self._name, operations or (ANY,)))
        with self._lock:
            full = max(1.0, per_second)
            self._state.quotas.append(_Quota(names, per_second, full, self._clock()))

    def lag(self, *, aliases: float = 0.0, keys: float = 0.0, grants: float = 0.0) -> None:
        """Let changes of aliases, of keys and new grants be seen that many seconds late only.

        Crypto operations and DescribeKey are late; whatever changes something is not.
        """
        self._state.lag = Lag(aliases, keys, grants)

    def slow_rotation(self, seconds: float) -> None:
        """Let an on-demand rotation be in progress for that long."""
        self._state.rotation_seconds = seconds

    def clear(self) -> None:
        """Fine weather again; requests go on being numbered."""
        with self._lock:
            self._state = _State()

    def outlook(self, operation: str) -> Outlook:
        """What happens to the next request of this operation. Counts it."""
        with self._lock:
            self._seen[operation] += 1
            draw = random.Random(f"{self._seed}:{operation}:{self._seen[operation]}")  # noqa: S311
            delay, fault = 0.0, None
            for rule in self._state.rules:
                # Drawn for every rule, so that one rule does not shift the luck of the next.
                luck, jitter = draw.random(), draw.random()
                if rule.operation not in {ANY, operation} or luck >= rule.probability:
                    continue
                delay += rule.delay_seconds + jitter * rule.jitter_seconds
                if rule.fault is not None and fault is None and rule.left != 0:
                    fault = rule.fault
                    rule.left = None if rule.left is None else rule.left - 1
            if fault is None and self._over_quota(operation):
                fault = Fault.THROTTLING
            return Outlook(delay, fault)

    def _over_quota(self, operation: str) -> bool:
        now = self._clock()
        concerned = [q for q in self._state.quotas if q.operations & {ANY, operation}]
        # All of them pay, also behind the first that is empty.
        granted = [quota.take(now) for quota in concerned]
        return not all(granted)

    def _name(self, operation: str) -> str:
        return operation if operation == ANY else self._name_of(operation)

    def _add(self, rule: _Rule) -> None:
        with self._lock:
            self._state.rules.append(rule)


def _checked(probability: float) -> float:
    if not 0 <= probability <= 1:
        raise ConfigurationError(f"probability={probability!r} is refused: it must be 0 to 1")
    return probability


def _kind(kind: Fault | str) -> Fault:
    try:
        return Fault(kind)
    except ValueError as error:
        known = ", ".join(Fault)
        raise ConfigurationError(f"the fault {kind!r} is unknown; known are {known}") from error
