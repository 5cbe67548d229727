"""``CountingKms``: how many KMS calls a piece of code makes."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.kms.protocol import inspectable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy_kmsenv.kms.protocol import (
        EncryptionContext,
        GeneratedDataKey,
        InspectableKms,
        KeyDescription,
        Kms,
        ReWrappedDataKey,
    )


class CountingKms:
    """Another ``Kms`` with its calls counted, also those that it refuses.

    ``resolve`` is not counted: whether it really asks the service cannot be seen
    from outside. What ``InspectableKms`` adds is passed on, and counted apart.
    """

    def __init__(self, kms: Kms) -> None:
        self.kms = kms
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._inquiries: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"CountingKms({self.kms!r})"

    @property
    def named_by_arn(self) -> bool:
        """As the counted ``Kms``, where it says so: an alias may move to another key."""
        return bool(getattr(self.kms, "named_by_arn", True))

    @property
    def calls(self) -> Counter[str]:
        """Calls so far, a copy: ``generate_data_key``, ``unwrap`` and ``rewrap``."""
        with self._lock:
            return self._calls.copy()

    @property
    def inquiries(self) -> Counter[str]:
        """Questions so far, a copy: ``describe``, ``would_generate``, ``would_unwrap``, ..."""
        with self._lock:
            return self._inquiries.copy()

    @property
    def total(self) -> int:
        """All calls so far."""
        return self.calls.total()

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._calls.clear()
            self._inquiries.clear()

    @contextmanager
    def expect(
        self, *, generate_data_key: int = 0, unwrap: int = 0, rewrap: int = 0
    ) -> Iterator[None]:
        """Require exactly these calls, from any thread, inside the ``with`` block.

        Raises:
            AssertionError: other numbers were seen; it names both. An exception
                of the block itself goes before it.
        """
        expected = {"generate_data_key": generate_data_key, "unwrap": unwrap, "rewrap": rewrap}
        before = self.calls
        yield
        after = self.calls
        differences = [
            f"{name}: expected {number}, seen {after[name] - before[name]}"
            for name, number in expected.items()
            if after[name] - before[name] != number
        ]
        if differences:
            raise AssertionError("KMS calls differ: " + "; ".join(differences))

    def resolve(self) -> str:
        """As the counted ``Kms``; not counted."""
        return self.kms.resolve()

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """As the counted ``Kms``."""
        self._count("generate_data_key")
        return self.kms.generate_data_key(context)

    def unwrap(self, wrapped: bytes, context: EncryptionContext, *, key_arn: str) -> bytearray:
        """As the counted ``Kms``."""
        self._count("unwrap")
        return self.kms.unwrap(wrapped, context, key_arn=key_arn)

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """As the counted ``Kms``."""
        self._count("rewrap")
        return self.kms.rewrap(wrapped, context, key_arn=key_arn, new_context=new_context)

    def describe(self) -> KeyDescription:
        """As the counted ``Kms``; an inquiry, as those below.

        Raises:
            ConfigurationError: the counted ``Kms`` cannot be asked.
        """
        return self._inquire("describe").describe()

    def would_generate(self, context: EncryptionContext) -> None:
        """As the counted ``Kms``."""
        self._inquire("would_generate").would_generate(context)

    def would_unwrap(
        self, context: EncryptionContext, *, key_arn: str, wrapped: bytes | None = None
    ) -> None:
        """As the counted ``Kms``."""
        self._inquire("would_unwrap").would_unwrap(context, key_arn=key_arn, wrapped=wrapped)

    def would_rewrap(
        self,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
        wrapped: bytes | None = None,
    ) -> None:
        """As the counted ``Kms``."""
        self._inquire("would_rewrap").would_rewrap(
            context, key_arn=key_arn, new_context=new_context, wrapped=wrapped
        )

    def _count(self, name: str) -> None:
        with self._lock:
            self._calls[name] += 1

    def _inquire(self, name: str) -> InspectableKms:
        with self._lock:
            self._inquiries[name] += 1
        return inspectable(self.kms)
