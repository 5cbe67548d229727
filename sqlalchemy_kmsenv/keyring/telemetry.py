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
from typing import TYPE_CHECKING, Protocol

from sqlalchemy_kmsenv.keyring.stats import KeyringStats
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


class Source(Protocol):
    """What the metrics are read from whenever they are collected."""

    @property
    def name(self) -> str:
        """The keyring's name."""
        ...

    def stats(self) -> KeyringStats:
        """Its numbers."""
        ...


def follow(source: Source) -> None:
    """Have the numbers of a keyring collected for as long as it lives."""
    if AVAILABLE:
        _collected().add(source)


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
    return metrics.get_meter(_SCOPE, VERSION).create_histogram(
        "kmsenv.kms.duration", unit="s", description="Calls to the KMS, by operation and outcome"
    )


@functools.cache
def _collected() -> weakref.WeakSet[Source]:
    """The keyrings that live; made together with the instruments that read them."""
    sources: weakref.WeakSet[Source] = weakref.WeakSet()
    meter = metrics.get_meter(_SCOPE, VERSION)
    for name, (description, read) in _COUNTERS.items():
        meter.create_observable_counter(name, [_callback(sources, read)], description=description)
    name, (description, read) = _HELD
    meter.create_observable_up_down_counter(
        name, [_callback(sources, read)], description=description
    )
    return sources


_Read = Callable[[KeyringStats], Iterable[tuple[_Labels, int]]]


def _callback(
    sources: weakref.WeakSet[Source], read: _Read
) -> Callable[[CallbackOptions], list[Observation]]:
    def observe(_: CallbackOptions) -> list[Observation]:
        # Keyrings of one name are one to whoever looks at a chart.
        totals: Counter[_Labels] = Counter()
        for source in list(sources):
            for labels, number in read(source.stats()):
                totals[("kmsenv.keyring", source.name), *labels] += number
        return [metrics.Observation(number, dict(labels)) for labels, number in totals.items()]

    return observe


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
