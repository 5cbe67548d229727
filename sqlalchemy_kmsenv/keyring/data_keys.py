"""Data keys in use: one for sealing with its budget, one for opening with its deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.envelope import InlineReference, serialize_header
from sqlalchemy_kmsenv.errors import KeyServiceError
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES

Clock = Callable[[], float]


class SealingKey:
    """A data key that seals until its age, messages or bytes are used up."""

    __slots__ = (
        "_bytes_left", "_clock", "_deadline", "_headers", "_lock", "_messages_left",
        "_unused", "cipher", "reference",
    )  # fmt: skip

    def __init__(
        self,
        cipher: ValueCipher,
        reference: InlineReference,
        policy: CachePolicy,
        *,
        made_at: float,
        clock: Clock,
    ) -> None:
        self.cipher: ValueCipher | None = cipher
        self.reference = reference
        self._headers: dict[int, bytes] = {}
        self._clock = clock
        self._deadline = made_at + policy.max_age_seconds
        self._messages_left = policy.max_messages
        self._bytes_left = policy.max_bytes
        self._unused = True
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SealingKey of KMS key {self.reference.fingerprint.hex()}>"

    def header(self, value_type: int) -> bytes:
        """What precedes the nonce in every envelope of this type under this key."""
        header = self._headers.get(value_type)
        if header is None:
            header = self._headers[value_type] = serialize_header(self.reference, value_type)
        return header

    def usable(self) -> bool:
        """Whether its age and its budget leave room for a value."""
        return self.cipher is not None and self._messages_left > 0 and self._in_time()

    def drop(self) -> None:
        """Give up the cipher."""
        self.cipher = None

    def retire(self) -> None:
        """Seal at most the one batch that it was made for."""
        self._deadline = float("-inf")

    def reserve(self, sizes: Sequence[int]) -> tuple[ValueCipher | None, int]:
        """The cipher, and how many of these payloads, from the first on, it may seal now.

        They are booked before they are sealed, so that threads together never
        exceed the policy. A payload larger than the whole byte limit gets a fresh
        key to itself.
        """
        with self._lock:
            cipher = self.cipher
            # A fresh key seals at least once, however short the policy: it was made for this.
            if cipher is None or not (self._unused or self._in_time()):
                return None, 0
            count, size = self._affordable(sizes)
            self._messages_left -= count
            self._bytes_left -= size
            self._unused = self._unused and not count
            return (cipher, count) if count else (None, 0)

    def _affordable(self, sizes: Sequence[int]) -> tuple[int, int]:
        total = sum(sizes)
        if len(sizes) <= self._messages_left and total <= self._bytes_left:
            return len(sizes), total
        count = size = 0
        for next_size in sizes[: max(self._messages_left, 0)]:
            if size + next_size > self._bytes_left:
                break
            count += 1
            size += next_size
        if count == 0 and self._unused:
            return 1, sizes[0]
        return count, size

    def _in_time(self) -> bool:
        return self._clock() < self._deadline


class OpeningKey:
    """A data key that opens until its deadline."""

    __slots__ = ("_clock", "cipher", "deadline")

    def __init__(self, cipher: ValueCipher | None, *, deadline: float, clock: Clock) -> None:
        self.cipher = cipher
        self.deadline = deadline
        self._clock = clock

    def __repr__(self) -> str:
        return "<OpeningKey>"

    def usable(self) -> bool:
        """Whether it may still open values."""
        return self.cipher is not None and self._clock() < self.deadline

    def drop(self) -> None:
        """Give up the cipher, also for the readers that still hold this object."""
        self.deadline = float("-inf")
        self.cipher = None

    def retire(self) -> None:
        """Open at most the value that it was looked up for."""
        self.deadline = float("-inf")


def cipher_of(data_key: bytearray | None) -> ValueCipher:
    """The cipher of a data key, which is overwritten.

    Raises:
        KeyServiceError: it is of another length, or of a type that cannot be overwritten.
    """
    given = type(data_key).__name__
    if not isinstance(data_key, (bytearray, memoryview)) or getattr(data_key, "readonly", False):
        # Gone before the raise: error reporters show the variables of frames.
        del data_key
        raise KeyServiceError(
            f"the KMS gave a data key as {given}, and not as a bytearray, which is overwritten"
            " after use; mend the object that was given to Keyring (Kms says what it returns)"
        )
    try:
        if len(data_key) != DATA_KEY_BYTES:
            raise KeyServiceError(
                f"the KMS gave a data key of {len(data_key)} bytes instead of {DATA_KEY_BYTES}"
            )
        return ValueCipher(data_key)
    finally:
        # Best effort: Python and the HTTP client may have made copies before.
        data_key[:] = bytes(len(data_key))
