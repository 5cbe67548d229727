"""Sealing beside a thread that never stops computing: nothing may wait for it value by value."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.subject import BATCH, EncryptedColumn, text
from benchmarks.timing import Samples, interleave, settle, timed

SIZE = 64
TARGET_MICROSECONDS = 10.0
_BATCHES = 20


def run(console: Console, rounds: int, directory: Path) -> None:
    column = EncryptedColumn(directory)
    keys = list(range(1, BATCH + 1))
    work = partial(column.seal, keys, [text(SIZE) for _ in keys])
    work()
    settle()

    def alone() -> float:
        return sum(timed(work) for _ in range(_BATCHES)) / (_BATCHES * BATCH)

    def beside() -> float:
        with _busy_thread():
            return alone()

    measured = interleave(rounds, {"alone": alone, "beside a busy thread": beside})
    made = report.table(
        f"A value of {SIZE} bytes, sealed in batches of {BATCH:,}",
        "", "per value", "target, us", "reached",
    )  # fmt: skip
    for name, samples in measured.items():
        made.add_row(name, report.seconds(samples), *_judged(name, samples))
    report.show(console, made)


def _judged(name: str, samples: Samples) -> tuple[str, str]:
    target = None if name == "alone" else TARGET_MICROSECONDS
    return report.at_most(samples.median * 1e6, target)


@contextmanager
def _busy_thread() -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(10_000):
                number = (number * 31 + 7) % 1_000_003

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
