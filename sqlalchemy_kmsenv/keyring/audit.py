"""What an audit hook is told: one record for each use of a data key."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Operation = Literal["generate", "unwrap", "rewrap", "seal", "open"]
"""The first three are calls to the key service, the last two happen in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """One use of a data key: never a value, never bytes of a key."""

    at: datetime.datetime
    """In UTC, by the clock of this machine."""
    operation: Operation
    keyring: str
    context: Mapping[str, str]
    """The encryption context, the pairs of the keyring included; as CloudTrail shows it."""
    key_arn: str | None
    """The KMS key; None where it could not be told."""
    material: str | None
    """The key material: 64 hexadecimal digits from an answer of the KMS, the first 16 of them
    from an envelope; None where unknown."""
    values: int | None
    """Values sealed, or refused when opened; None where the number is not known yet."""
    error: str | None = None
    """The class of the exception that refused the use; None where it was done."""
    request_id: str | None = None
    """That of the call to the KMS, as in CloudTrail; None where there was no call."""

    @property
    def outcome(self) -> Literal["done", "refused"]:
        """Whether the data key was used."""
        return "done" if self.error is None else "refused"

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON takes it, the time in ISO 8601."""
        return {
            "at": self.at.isoformat(),
            "operation": self.operation,
            "outcome": self.outcome,
            "error": self.error,
            "keyring": self.keyring,
            "context": dict(self.context),
            "key_arn": self.key_arn,
            "material": self.material,
            "values": self.values,
            "request_id": self.request_id,
        }


AuditHook = Callable[[KeyUse], object]
"""Called in the thread that uses the data key, before the use takes effect."""
