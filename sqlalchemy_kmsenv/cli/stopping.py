"""Ctrl-C: stop after the page in hand, and at once when it comes again."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_SHOW_CURSOR = b"\x1b[?25h"
_WORDS = b"\nStopping after the page in hand; the same signal again stops at once.\n"


class Stopping:
    """Inside of ``with``, SIGINT and SIGTERM are remembered; a call tells whether one came.

    The second one has its usual effect. That is safe as SIGKILL is: a page is one
    transaction, and a checkpoint file is replaced as a whole.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether the job is to stop."""
        return self._asked

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            if sys.stderr.isatty():
                os.write(_STDERR, _SHOW_CURSOR)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._asked = True
        # Not print(): the signal may have come inside of another one.
        os.write(_STDERR, _WORDS)
