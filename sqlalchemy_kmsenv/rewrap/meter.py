"""Key services in jobs: counted, slowed down, and waited for when they are away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import KeyServiceUnavailableError
from sqlalchemy_kmsenv.kms import EncryptionContext, GeneratedDataKey, Kms, ReWrappedDataKey

_T = TypeVar("_T")
_STEP_SECONDS = 0.1


class StopJobError(Exception):
    """The job cannot or must not go on; its text is for the report."""


class Budget:
    """A rate that all threads of a process keep to together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paid_until = 0.0

    def pay(self, units: int, rate: float | None, began: float) -> float:
        """The time before which units that began to be used at ``began`` are not paid for."""
        if rate is None:
            return began
        with self._lock:
            self._paid_until = max(self._paid_until, began) + units / rate
            return self._paid_until


class Meter:
    """The pace of one worker: what it may call, for how long it waits, whether it is to stop.

    The rates are those of its process; ``budgets`` are what its threads share.
    """

    def __init__(
        self,
        *,
        budgets: tuple[Budget, Budget] | None = None,
        kms_per_second: float | None = None,
        rows_per_second: float | None = None,
        patience_seconds: float = defaults.REWRAP_KMS_PATIENCE_SECONDS,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._kms_budget, self._rows_budget = budgets or (Budget(), Budget())
        self._kms_per_second = kms_per_second
        self._rows_per_second = rows_per_second
        self._patience_seconds = patience_seconds
        self._should_stop = should_stop
        self.kms_calls = 0

    def call(self, ask: Callable[[], _T]) -> _T:
        """The answer to a KMS call, tried again while the service is throttled or away.

        Raises:
            StopJobError: it has been away for too long, or the job is to stop.
            KmsEnvError: anything else that ``ask`` raises.
        """
        began = time.monotonic()
        wait = defaults.REWRAP_KMS_FIRST_WAIT_SECONDS
        while True:
            try:
                return self._paced(ask)
            except KeyServiceUnavailableError as error:
                pause = wait * random.uniform(0.5, 1)  # noqa: S311  spreads tries, keeps no secret
                if time.monotonic() - began + pause > self._patience_seconds:
                    raise StopJobError(f"the key service is not available: {error}") from error
                self.sleep(pause)
                wait = min(2 * wait, defaults.REWRAP_KMS_LONGEST_WAIT_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Wait, in steps, so that a job that is to stop does.

        Raises:
            StopJobError: it is.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.is_to_stop():
                raise StopJobError("it was asked to stop")
            time.sleep(min(left, _STEP_SECONDS))

    def is_to_stop(self) -> bool:
        """Whether the job was asked to stop."""
        return self._should_stop is not None and self._should_stop()

    def pay_for_rows(self, rows: int, began: float) -> None:
        """Wait until so many rows may have been read since ``began``, in all threads."""
        until = self._rows_budget.pay(rows, self._rows_per_second, began)
        while not self.is_to_stop() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_SECONDS))

    def _paced(self, ask: Callable[[], _T]) -> _T:
        began = time.monotonic()
        self.kms_calls += 1
        try:
            return ask()
        finally:
            self.sleep(self._kms_budget.pay(1, self._kms_per_second, began) - time.monotonic())


_CURRENT: ContextVar[Meter] = ContextVar("sqlalchemy_kmsenv_meter")


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Let ``meter`` decide about the calls that this thread makes inside the block."""
    token = _CURRENT.set(meter)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class MeteredKms:
    """Another ``Kms`` whose calls go through the meter of the thread that makes them."""

    def __init__(self, kms: Kms) -> None:
        self._kms = kms

    def __repr__(self) -> str:
        return repr(self._kms)

    def resolve(self) -> str:
        """As the other; asks the service once at most, and is not counted."""
        return self._kms.resolve()

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """As the other."""
        return _CURRENT.get().call(lambda: self._kms.generate_data_key(context))

    def unwrap(self, wrapped: bytes, context: EncryptionContext, *, key_arn: str) -> bytearray:
        """As the other."""
        return _CURRENT.get().call(lambda: self._kms.unwrap(wrapped, context, key_arn=key_arn))

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """As the other."""
        return _CURRENT.get().call(
            lambda: self._kms.rewrap(wrapped, context, key_arn=key_arn, new_context=new_context)
        )
