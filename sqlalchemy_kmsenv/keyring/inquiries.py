"""What a keyring says of its KMS keys, and what they would allow, without doing it."""

from __future__ import annotations

from sqlalchemy_kmsenv.context import alike
from sqlalchemy_kmsenv.envelope import InlineReference
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.services import Services
from sqlalchemy_kmsenv.kms.protocol import KeyDescription, Kms, inspectable

ContextPairs = tuple[tuple[str, str], ...]
"""An encryption context without the keyring's own pairs, sorted by name."""


class Inquiries:
    """The methods of ``Keyring`` that use no data key. None of them is told to an audit hook."""

    _services: Services
    _pairs: dict[str, str]
    _policy: CachePolicy

    @property
    def cache(self) -> CachePolicy:
        """The limits of its data keys."""
        return self._policy

    @property
    def services(self) -> tuple[Kms, ...]:
        """Its KMS keys, the one that wraps first; calls made to them are not watched."""
        return self._services.all

    def context_of(self, pairs: ContextPairs) -> dict[str, str]:
        """The whole encryption context: the keyring's own pairs and these.

        Raises:
            ConfigurationError: both name the same pair, or two names differ by case alone.
        """
        return self._context(pairs)

    def describe(self) -> KeyDescription:
        """What is known of the KMS key that wraps, and of its current material. One call.

        Raises:
            KeyServiceError: the KMS refused or failed.
        """
        return self._services.describe()

    def key_arns(self) -> dict[bytes, str]:
        """The ARN of each KMS key by its fingerprint, the one that wraps first.

        Raises:
            KeyServiceError: the KMS refused or failed to say them.
        """
        return self._services.arns()

    def would_rewrap(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """Return where ``rewrap`` would work now; raise what it would. One call.

        Raises:
            ConfigurationError: also where the KMS cannot be asked; so below.
        """
        key_arn = self._services.of(reference.fingerprint)[1]
        inspectable(self._services.wrapping).would_rewrap(
            self._context(pairs), key_arn=key_arn, wrapped=reference.wrapped
        )

    def would_open(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """Return where the data key would be unwrapped now; raise what that would. One call."""
        kms, key_arn = self._services.of(reference.fingerprint)
        inspectable(kms).would_unwrap(
            self._context(pairs), key_arn=key_arn, wrapped=reference.wrapped
        )

    def would_seal(self, pairs: ContextPairs) -> None:
        """Return where a data key would be made now; raise what that would. One call."""
        inspectable(self._services.wrapping).would_generate(self._context(pairs))

    def _context(self, pairs: ContextPairs) -> dict[str, str]:
        clash = self._pairs.keys() & dict(pairs).keys()
        if clash:
            raise ConfigurationError(
                f"Keyring(context=...) names {sorted(clash)} that scope columns name too; one of"
                " both would hide the other, so rename the pair of the keyring"
            )
        joined = {**self._pairs, **dict(pairs)}
        if len({name.lower() for name in joined}) < len(joined):
            raise ConfigurationError(
                f"{alike(joined)} of Keyring(context=...) and scope columns are names that IAM does"
                " not tell apart: rename the pair of the keyring, or one of the columns, so that"
                " they differ by more than case"
            )
        return joined
