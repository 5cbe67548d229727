"""Ctrl-C: stop after the page in hand, and at once when it comes again."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_SHOW_CURSOR = b"\x1b[?25h"
_WORDS = b"\nStopping after the page in hand; the same signal again stops at once.\n"
_KILLED_BY = 128
"""What a shell adds to the number of the signal that ended a process."""


class Stopping:
    """A call tells whether SIGINT or SIGTERM came.

    The second one ends the process. That is safe as SIGKILL is: a page is one
    transaction, and a checkpoint file is replaced as a whole.
    """

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Whether the job is to stop."""
        return self._asked

    def signalled(self, number: int, _frame: FrameType | None = None) -> None:
        """Take note of a signal."""
        if self._asked:
            if sys.stderr.isatty():
                os.write(_STDERR, _SHOW_CURSOR)
            os._exit(_KILLED_BY + number)
        self._asked = True
        # Not print(): the signal may have come inside of another one.
        os.write(_STDERR, _WORDS)


@contextmanager
def stopped_by_signals() -> Iterator[Stopping]:
    """A ``Stopping`` that has the signals of this process until the end of the block."""
    stopping = Stopping()
    waits = _taken_by_a_thread if hasattr(signal, "sigwait") else _taken_by_handlers
    with waits(stopping):
        yield stopping


@contextmanager
def _taken_by_a_thread(stopping: Stopping) -> Iterator[None]:
    # Not by handlers: a signal interrupts what the main thread waits for, and psycopg 3.1
    # fails then (EINTR). Threads that begin inside of the block inherit the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    done = threading.Event()

    def listen() -> None:
        while True:
            number = signal.sigwait(_SIGNALS)
            if done.is_set():
                return
            stopping.signalled(number)

    listener = threading.Thread(target=listen, name="kmsenv-signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        done.set()
        if listener.ident is not None:
            signal.pthread_kill(listener.ident, signal.SIGTERM)
        listener.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _taken_by_handlers(stopping: Stopping) -> Iterator[None]:
    before = {number: signal.signal(number, stopping.signalled) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
