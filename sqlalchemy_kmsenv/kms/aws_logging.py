"""Keeps data keys out of botocore's DEBUG log, which prints the bodies of answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = logging.getLogger("botocore.parsers")
_BODY = "Response body"


class _Calls(threading.local):
    """How many calls of this library the current thread is inside of."""

    depth = 0


class _WithoutBodies(logging.Filter):
    """Drops the records of answers to this library's calls, and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = _Calls()

    def filter(self, record: logging.LogRecord) -> bool:
        return not (self.calls.depth and str(record.msg).startswith(_BODY))


_FILTER = _WithoutBodies()


@contextmanager
def bodies_unlogged() -> Iterator[None]:
    """No body of an answer is logged that arrives in this thread meanwhile."""
    # Each time, since an application may configure its logging anew; a second one is not added.
    _LOGGER.addFilter(_FILTER)
    _FILTER.calls.depth += 1
    try:
        yield
    finally:
        _FILTER.calls.depth -= 1
