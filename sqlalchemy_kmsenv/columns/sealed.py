"""What stands in a statement's parameters in the place of a plaintext value."""

from __future__ import annotations


class Sealed:
    """An envelope on its way to the database; the only value the bind side accepts."""

    __slots__ = ("stored",)

    def __init__(self, stored: bytes | bytearray) -> None:
        self.stored = stored

    def __repr__(self) -> str:
        return f"<Sealed, {len(self.stored)} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self.stored == other.stored

    __hash__ = None  # type: ignore[assignment]  # a bytearray inside may not be hashed
