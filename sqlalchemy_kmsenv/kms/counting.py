"""``CountingKms``: how many KMS calls a piece of code makes."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy_kmsenv.kms.protocol import (
        EncryptionContext,
        GeneratedDataKey,
        Kms,
        ReWrappedDataKey,
    )


class CountingKms:
    """Another ``Kms`` with its calls counted, also those that it refuses.

    ``resolve`` is not counted: whether it really asks the service cannot be seen
    from outside.
    """

    def __init__(self, kms: Kms) -> None:
        self.kms = kms
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"CountingKms({self.kms!r})"

    @property
    def calls(self) -> Counter[str]:
        """Calls so far, a copy: ``generate_data_key``, ``unwrap`` and ``rewrap``."""
        with self._lock:
            return self._calls.copy()

    @property
    def total(self) -> int:
        """All calls so far."""
        return self.calls.total()

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._calls.clear()

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

    def _count(self, name: str) -> None:
        with self._lock:
            self._calls[name] += 1
