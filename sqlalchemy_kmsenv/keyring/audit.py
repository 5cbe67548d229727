"""What an audit hook is told: one record for each use of a data key."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Operation = Literal["generate", "unwrap", "rewrap", "seal", "open"]
"""The first three are calls to the key service, the last two happen in this process."""


class RefusalKind(enum.StrEnum):
    """What is the matter with a stored value that does not open; ``Finding`` has the same words."""

    NO_ENVELOPE = "no envelope"
    """Plaintext, truncated, of an unknown version, or without the parts of its row."""
    OTHER_KMS_KEY = "other KMS key"
    """It names a KMS key that the keyring does not list."""
    OTHER_KEY_CONTEXT = "other key context"
    """Its data key is another column's or scope's, or the wrapped key was altered."""
    DAMAGED_KEY = "damaged key reference"
    """The header names one data key, and carries another."""
    REVOKED_KEY = "revoked data key"
    """It was sealed under a data key that is on the keyring's list of revoked ones."""
    OTHER_ROW_OR_DAMAGED = "other row or damaged"
    """It does not authenticate in its row."""
    OTHER_TYPE = "other type"
    """It opens, but is no value of the column's type."""


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
    refusal: RefusalKind | None = None
    """What was the matter with a stored value that did not open; None for everything else."""
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
            "refusal": self.refusal,
            "keyring": self.keyring,
            "context": dict(self.context),
            "key_arn": self.key_arn,
            "material": self.material,
            "values": self.values,
            "request_id": self.request_id,
        }


AuditHook = Callable[[KeyUse], object]
"""Called in the thread that uses the data key, before the use takes effect."""
