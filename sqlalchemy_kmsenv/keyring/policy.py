"""How long and how often one data key may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Limits of the data-key cache; whichever is reached first ends a data key's use.

    Raises:
        ConfigurationError: a limit is not positive, or above what AES-GCM with
            random nonces allows.
    """

    max_age_seconds: float = defaults.CACHE_MAX_AGE_SECONDS
    """From the call to KMS on, for sealing and for opening."""
    max_messages: int = defaults.CACHE_MAX_MESSAGES
    """Values sealed under one data key, in this process."""
    max_bytes: int = defaults.CACHE_MAX_BYTES
    """Bytes of payload sealed under one data key, in this process."""
    max_entries: int = defaults.CACHE_MAX_ENTRIES
    """Data keys held for sealing, and as many for opening; the least recently used go."""

    def __post_init__(self) -> None:
        self._check("max_age_seconds", math.inf)
        self._check("max_messages", defaults.CEILING_MESSAGES)
        self._check("max_bytes", defaults.CEILING_BYTES)
        self._check("max_entries", math.inf)

    def _check(self, name: str, ceiling: float) -> None:
        value = getattr(self, name)
        whole = name == "max_age_seconds" or type(value) is int
        if not (whole and 0 < value <= ceiling):
            limit = "" if ceiling == math.inf else f" and at most {ceiling:,}"
            raise ConfigurationError(
                f"CachePolicy({name}={value!r}) is out of range: more than 0{limit};"
                " all but the age are whole numbers"
            )

    @classmethod
    def strict(cls) -> CachePolicy:
        """30 seconds or 1,000 messages: the policy for auditors who ask for a short one."""
        return cls(
            max_age_seconds=defaults.STRICT_MAX_AGE_SECONDS,
            max_messages=defaults.STRICT_MAX_MESSAGES,
        )
