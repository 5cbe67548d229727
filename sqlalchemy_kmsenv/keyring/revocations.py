"""Data keys that may have leaked: nothing that was sealed under one is believed any more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import ConfigurationError, KmsEnvError, RevokedKeyError

_COMMITMENT = re.compile("[0-9a-f]{64}")

ReadRevoked = Callable[[], Iterable[str]]
"""Says which commitments are revoked now, in hexadecimal; ``RevokedDataKeys`` is one."""


class UnreadListError(ConfigurationError):
    """Which data keys are revoked is not known: no stored value is to blame for that."""


class Revocations:
    """The commitments of ``Keyring(revoked=[...])``, and those that ``revoked_from`` tells.

    Raises:
        ConfigurationError: one is no commitment.
    """

    def __init__(
        self,
        revoked: Iterable[str],
        revoked_from: ReadRevoked | None,
        clock: Callable[[], float],
    ) -> None:
        self._given = frozenset(map(checked_commitment, _listed(revoked)))
        self._read: frozenset[bytes] = frozenset()
        self.source = revoked_from
        self._clock = clock
        self._read_at = float("-inf")

    @property
    def commitments(self) -> frozenset[bytes]:
        """All that are known."""
        return self._given | self._read

    def add(self, commitments: Iterable[str]) -> None:
        """Revoke more, in this process."""
        self._given |= frozenset(map(checked_commitment, _listed(commitments)))

    def refresh(self) -> bool:
        """Ask the source, unless it was asked a short time ago; whether there are more now.

        Raises:
            UnreadListError: it failed, or told something else than commitments.
        """
        if self.source is None:
            return False
        now = self._clock()
        if now - self._read_at < defaults.REVOCATIONS_READ_SECONDS:
            return False
        try:
            told = frozenset(map(checked_commitment, _listed(self.source())))
        except KmsEnvError as error:
            raise UnreadListError(f"Keyring(revoked_from=...): {error}") from error
        except Exception as error:
            # Without the list nobody knows what may be believed.
            raise UnreadListError(
                f"the list of revoked data keys cannot be read ({type(error).__name__}), so that"
                " nothing is opened or sealed; mend Keyring(revoked_from=...), or what it reads"
            ) from error
        self._read_at = now
        more = not told <= self._read
        self._read = told
        return more

    def check(self, commitment: bytes) -> None:
        """Return unless this data key is revoked.

        Raises:
            RevokedKeyError: it is.
        """
        if commitment in self._given or commitment in self._read:
            raise RevokedKeyError(
                f"the value was sealed under data key {commitment.hex()}, which is revoked: whoever"
                " had it may have made the value. Restore it from a backup that is older than the"
                " leak, or write it anew"
            )


def _listed(revoked: Iterable[str]) -> Iterable[str]:
    if isinstance(revoked, (str, bytes)) or not isinstance(revoked, Iterable):
        raise ConfigurationError("Keyring(revoked=...) takes a list of commitments")
    return revoked


def checked_commitment(commitment: object) -> bytes:
    """The bytes of a commitment that is given in hexadecimal.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(commitment, str) and _COMMITMENT.fullmatch(commitment.strip().lower()):
        return bytes.fromhex(commitment.strip())
    raise ConfigurationError(
        "a revoked data key is named by its commitment, 64 hexadecimal digits, which kmsenv"
        f" inspect and kmsenv reencrypt print; got {type(commitment).__name__}"
    )
