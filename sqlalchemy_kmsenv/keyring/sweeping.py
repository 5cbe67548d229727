"""Drops data keys when their time is over, also in a process that does nothing any more."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Final, Protocol

_LONGEST_WAIT_SECONDS = 86_400.0
"""Some platforms take no longer one; who waits on looks at the clock again."""

_LONGEST_PAUSE_SECONDS = 1.0
"""Before a fork; the thread ends at once unless it is dropping very many data keys."""


class Sweepable(Protocol):
    """What holds data keys that end."""

    def sweep(self) -> float | None:
        """Drop what is over; in how many seconds more will be, None where nothing is left."""
        ...


class Sweeper:
    """One thread a process, from the first data key on; it ends where none is held."""

    # One for all keyrings: an application may have thousands, one a tenant.

    _changed: threading.Condition
    _thread: threading.Thread | None
    _due: dict[int, tuple[float, weakref.ref[Sweepable]]]

    def __init__(self) -> None:
        self._begin()
        if hasattr(os, "register_at_fork"):
            # A process with threads should not fork, and Python warns of it. In the child,
            # stores that keep what they inherit come again.
            os.register_at_fork(
                before=self._pause, after_in_parent=self._go_on, after_in_child=self._begin
            )

    def expect(self, store: Sweepable, seconds: float) -> None:
        """Have ``store`` swept in so many seconds, and again as long as anything is left."""
        with self._changed:
            known = self._due.get(id(store))
            if known is not None and known[1]() is store:
                # It is swept sooner, and then at the time of what is left.
                return
            self._due[id(store)] = (time.monotonic() + seconds, weakref.ref(store))
            self._start()
            self._changed.notify()

    @property
    def running(self) -> bool:
        """Whether there is a thread now."""
        return self._thread is not None

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="sqlalchemy-kmsenv-sweeper", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down, or has no more threads: age still counts at use.
            return
        self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._thread is not threading.current_thread():
                    return
                if not self._due:
                    self._thread = None
                    return
                now = time.monotonic()
                wait = min(due for due, _ in self._due.values()) - now
                if wait > 0:
                    self._changed.wait(min(wait, _LONGEST_WAIT_SECONDS))
                    continue
                ready = [number for number, (due, _) in self._due.items() if due <= now]
                taken = [self._due.pop(number)[1] for number in ready]
            for reference in taken:
                self._sweep(reference)

    def _sweep(self, reference: weakref.ref[Sweepable]) -> None:
        store = reference()
        seconds = None if store is None else store.sweep()
        if store is not None and seconds is not None:
            self.expect(store, seconds)

    def _pause(self) -> None:
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join(_LONGEST_PAUSE_SECONDS)

    def _go_on(self) -> None:
        with self._changed:
            if self._due:
                self._start()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._thread = None
        self._due = {}


SWEEPER: Final = Sweeper()
