"""The KMS keys of a keyring: which one an envelope names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.envelope import key_fingerprint
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms.protocol import InspectableKms, KeyDescription, Kms, inspectable
from sqlalchemy_kmsenv.kms.uri import kms_from_uri


class Services:
    """The KMS key that wraps, and those that may only unwrap.

    Raises:
        ConfigurationError: a URI is wrong, or an object has not the methods of ``Kms``.
    """

    def __init__(
        self, kms: Kms | str, unwrap_only: Iterable[Kms | str], clock: Callable[[], float]
    ) -> None:
        if isinstance(unwrap_only, str):
            raise ConfigurationError("Keyring(unwrap_only=...) takes a list of KMS keys")
        former = tuple(map(_kms_of, unwrap_only))
        self.wrapping = _kms_of(kms, former)
        self.all = (self.wrapping, *former)
        self._known: dict[bytes, tuple[Kms, str]] = {}
        self._clock = clock
        self._asked_at = float("-inf")

    def __repr__(self) -> str:
        others = list(self.all[1:])
        return repr(self.wrapping) + (f", unwrap_only={others!r}" if others else "")

    def note(self, key_arn: str) -> bytes:
        """The fingerprint of the key that wraps; its envelopes need no look-up from now on."""
        fingerprint = key_fingerprint(key_arn)
        self._known[fingerprint] = (self.wrapping, key_arn)
        return fingerprint

    def arn_of(self, fingerprint: bytes) -> str | None:
        """The ARN of a key that was used already."""
        known = self._known.get(fingerprint)
        return None if known is None else known[1]

    def of(self, fingerprint: bytes) -> tuple[Kms, str]:
        """The key of that fingerprint, and its ARN.

        Raises:
            ConfigurationError: none of the keys has it.
            KeyServiceError: the KMS refused or failed to say an ARN.
        """
        known = self._known.get(fingerprint)
        if known is not None:
            return known
        for kms in self.all:
            key_arn = kms.resolve()
            self._known.setdefault(key_fingerprint(key_arn), (kms, key_arn))
            if key_fingerprint(key_arn) == fingerprint:
                return self._known[fingerprint]
        self._ask_again()
        known = self._known.get(fingerprint)
        if known is not None:
            return known
        raise ConfigurationError(
            f"the value was sealed under a KMS key (fingerprint {fingerprint.hex()}) that"
            f" Keyring({self!r}) does not list; add that key to Keyring(unwrap_only=[...])"
        )

    def _ask_again(self) -> None:
        """Have aliases looked up anew: one may have moved to another key since the last time."""
        # Not for each value: whoever can write to the table can make up fingerprints.
        now = self._clock()
        if now - self._asked_at < defaults.ALIAS_LOOKUP_SECONDS:
            return
        self._asked_at = now
        for kms in self.all:
            if isinstance(kms, InspectableKms) and not getattr(kms, "named_by_arn", True):
                key_arn = kms.describe().arn
                self._known.setdefault(key_fingerprint(key_arn), (kms, key_arn))

    def arns(self) -> dict[bytes, str]:
        """The ARN of each key by its fingerprint, the one that wraps first.

        Raises:
            KeyServiceError: the KMS refused or failed to say them.
        """
        return {key_fingerprint(arn): arn for arn in (kms.resolve() for kms in self.all)}

    def describe(self) -> KeyDescription:
        """What is known of the key that wraps. One call.

        Raises:
            KeyServiceError: the KMS refused or failed.
        """
        try:
            described = inspectable(self.wrapping).describe()
        except ConfigurationError:
            return KeyDescription(self.wrapping.resolve(), "unknown", None)
        self.note(described.arn)
        return described


def _kms_of(kms: Kms | str, former: Iterable[Kms] = ()) -> Kms:
    if isinstance(kms, str):
        return kms_from_uri(kms, rewraps_from=former)
    if not isinstance(kms, Kms):
        raise ConfigurationError(
            f"Keyring takes a KMS URI or an object like Kms, got {type(kms).__name__}"
        )
    return kms
