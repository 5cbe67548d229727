"""OpenTelemetry, where its API is installed; where it is not, nothing happens here.

The only module that imports it. docs/auditing.md lists every name.
"""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy_kmsenv.keyring.stats import KeyringStats, Numbers
from sqlalchemy_kmsenv.version import VERSION

try:
    from opentelemetry import metrics, trace
except ImportError:  # the extra "otel" is not installed
    AVAILABLE = False
else:
    AVAILABLE = True

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Observation

_SCOPE = "sqlalchemy_kmsenv"
_Labels = tuple[tuple[str, str], ...]
_Facts = Mapping[str, str]


_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15)
"""Seconds: those of OpenTelemetry's own HTTP durations, and the longest call to AWS. The default
ones are for milliseconds: every call would be in the first."""


class Labelled(Protocol):
    """What has a keyring's name, also after it."""

    @property
    def label(self) -> str:
        """The name in metrics."""
        ...


class Source(Protocol):
    """What the metrics are read from whenever they are collected."""

    @property
    def name(self) -> str:
        """The keyring's name."""
        ...

    def stats(self) -> KeyringStats:
        """Its numbers."""
        ...


def follow(source: Source, label: Labelled, numbers: Numbers) -> None:
    """Have the numbers of a keyring collected, and kept in the sums when it is gone.

    Jobs work with keyrings of their own: counters would go down at the end of each.
    """
    if AVAILABLE:
        collected = _collected()
        collected.sources.add(source)
        weakref.finalize(source, collected.bury, label, numbers).atexit = False


@contextmanager
def kms_call(operation: str, keyring: str) -> Iterator[dict[str, str]]:
    """A span and a duration around one call to the KMS.

    Yields a dictionary for what becomes known meanwhile, which ends up on the span.
    """
    facts: dict[str, str] = {}
    if not AVAILABLE:
        yield facts
        return
    outcome = "ok"
    started = perf_counter()
    common = {"kmsenv.operation": operation, "kmsenv.keyring": keyring}
    # Neither exception nor description on the span by themselves: a hook of the application
    # may have raised, and nobody knows what its message holds.
    with trace.get_tracer(_SCOPE, VERSION).start_as_current_span(
        f"kmsenv.kms.{operation}",
        kind=trace.SpanKind.CLIENT,
        attributes=common,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield facts
        except BaseException as error:
            outcome = facts["error.type"] = type(error).__name__
            span.set_status(trace.StatusCode.ERROR, outcome)
            raise
        finally:
            span.set_attributes(facts)
            _durations().record(perf_counter() - started, {**common, "kmsenv.outcome": outcome})


@functools.cache
def _durations() -> Histogram:
    create: Any = metrics.get_meter(_SCOPE, VERSION).create_histogram
    told = {"unit": "s", "description": "Calls to the KMS, by operation and outcome"}
    try:
        return cast(
            "Histogram",
            create("kmsenv.kms.duration", explicit_bucket_boundaries_advisory=_BOUNDARIES, **told),
        )
    except TypeError:  # seen with opentelemetry-api 1.20: only a view can say them there
        return cast("Histogram", create("kmsenv.kms.duration", **told))


_Read = Callable[[KeyringStats], Iterable[tuple[_Labels, int]]]


class _Collected:
    """The keyrings that live, and the sums of those that lived."""

    def __init__(self) -> None:
        self.sources: weakref.WeakSet[Source] = weakref.WeakSet()
        self._gone: dict[str, Counter[_Labels]] = {name: Counter() for name in _COUNTERS}

    def bury(self, label: Labelled, numbers: Numbers) -> None:
        """Add the last numbers of a keyring."""
        for name, (_, read) in _COUNTERS.items():
            self._gone[name].update(_labelled(label.label, read(numbers.stats())))

    def observations(self, name: str, read: _Read) -> list[Observation]:
        """The sum of a metric for each set of labels."""
        # Keyrings of one name are one to whoever looks at a chart. The living are held before
        # the sums of the dead are read: none may be missing from both.
        living = list(self.sources)
        totals = Counter(self._gone.get(name, {}))
        for source in living:
            totals.update(_labelled(source.name, read(source.stats())))
        return [metrics.Observation(number, dict(labels)) for labels, number in totals.items()]


def _labelled(name: str, read: Iterable[tuple[_Labels, int]]) -> dict[_Labels, int]:
    return {(("kmsenv.keyring", name), *labels): number for labels, number in read}


@functools.cache
def _collected() -> _Collected:
    """What there is to collect; made together with the instruments that read it."""
    collected = _Collected()
    meter = metrics.get_meter(_SCOPE, VERSION)

    def callback(name: str, read: _Read) -> Callable[[CallbackOptions], list[Observation]]:
        return lambda _: collected.observations(name, read)

    for name, (description, read) in _COUNTERS.items():
        meter.create_observable_counter(name, [callback(name, read)], description=description)
    name, (description, read) = _HELD
    meter.create_observable_up_down_counter(name, [callback(name, read)], description=description)
    return collected


def _lookups(stats: KeyringStats) -> Iterable[tuple[_Labels, int]]:
    for use, result, number in (
        ("seal", "hit", stats.seal_hits),
        ("seal", "miss", stats.seal_misses),
        ("open", "hit", stats.open_hits),
        ("open", "miss", stats.open_misses),
    ):
        yield (("kmsenv.use", use), ("kmsenv.result", result)), number


_COUNTERS: dict[str, tuple[str, _Read]] = {
    "kmsenv.data_keys.lookups": ("Look-ups in the cache of data keys", _lookups),
    "kmsenv.data_keys.evictions": (
        "Data keys that had to make room for others",
        lambda stats: [((), stats.evictions)],
    ),
    "kmsenv.data_keys.made": ("Data keys made", lambda stats: [((), stats.data_keys_made)]),
    "kmsenv.values.sealed": ("Values sealed", lambda stats: [((), stats.values_sealed)]),
    "kmsenv.values.opened": ("Values opened", lambda stats: [((), stats.values_opened)]),
    "kmsenv.values.refused": (
        "Stored values that did not open where they were",
        lambda stats: [((("kmsenv.refusal", kind),), n) for kind, n in stats.refusals.items()],
    ),
}
_HELD: tuple[str, tuple[str, _Read]] = (
    "kmsenv.data_keys.held",
    (
        "Data keys in the cache",
        lambda stats: [
            ((("kmsenv.use", "seal"),), stats.held_for_sealing),
            ((("kmsenv.use", "open"),), stats.held_for_opening),
        ],
    ),
)
