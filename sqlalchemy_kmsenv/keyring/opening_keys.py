"""The data keys that open: held under what names them, refused as the KMS refuses them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.envelope import UNKNOWN_MATERIAL, InlineReference, material_hint
from sqlalchemy_kmsenv.errors import KmsEnvError, WrongCellError
from sqlalchemy_kmsenv.keyring.data_keys import Clock, OpeningKey, cipher_of
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.keyring.inquiries import ContextPairs
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.refusals import Refusals
from sqlalchemy_kmsenv.keyring.services import Services
from sqlalchemy_kmsenv.keyring.watch import UsedKey, Watch, material_of
from sqlalchemy_kmsenv.kms.protocol import Kms


class CommitmentError(WrongCellError):
    """An envelope carries a data key that it was not sealed with."""


class _Name(NamedTuple):
    """What names a data key: all of it is compared with what was unwrapped."""

    pairs: ContextPairs
    key_arn: str
    commitment: bytes


class OpeningKeys:
    """Unwraps a data key once, and each of its wrapped forms once.

    A re-wrap makes another form of the same data key, and so does whoever alters one. Only
    the KMS can tell which, so that it is asked about each, cold or warm; a form that it
    once took needs no call while the data key is held, nor one that it has just refused.
    The material hint, which nobody authenticates, plays no part.
    """

    def __init__(
        self,
        services: Services,
        watch: Watch,
        context_of: Callable[[ContextPairs], dict[str, str]],
        policy: CachePolicy,
        clock: Clock,
    ) -> None:
        self._services = services
        self._watch = watch
        self._context_of = context_of
        self._policy = policy
        self._clock = clock
        self._refusals = Refusals(clock)
        self.held: FlightStore[_Name, OpeningKey] = FlightStore(
            policy.max_entries, lifetime_seconds=policy.max_age_seconds
        )

    def get(self, pairs: ContextPairs, reference: InlineReference) -> OpeningKey:
        """The data key that ``reference`` wraps, under exactly this context.

        Raises:
            ConfigurationError: its KMS key is not one of the keyring.
            CommitmentError: the envelope was sealed under another data key.
            WrongCellError: wrapped under another context, or altered.
            KeyServiceError: the KMS refused or failed.
            AuditError: the audit hook failed.
        """
        kms, key_arn = self._service_of(pairs, reference)
        name = _Name(pairs, key_arn, reference.commitment)
        form = hashlib.sha256(
            _place(pairs, key_arn) + reference.commitment + reference.wrapped
        ).digest()
        self._refusals.check(form)
        try:
            return self.held.get(name, lambda: self._unwrap(kms, name, reference), form)
        except WrongCellError as error:
            self._refusals.note(form, error)
            raise

    def confirm(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """As ``Keyring.confirm``: what is held here does not count."""
        context = self._context_of(pairs)
        with self._watch.kms_call("unwrap", context) as used:
            kms, used.key_arn = self._services.of(reference.fingerprint)
            cipher = _unwrapped(kms, reference, context, used)
            told = material_hint(used.material_id)
            if not cipher.commits_to(reference.commitment) or told not in (
                UNKNOWN_MATERIAL,
                reference.material_hint,
            ):
                raise CommitmentError(
                    "the header names another data key or key material than it carries"
                )

    def discard(self, commitments: Container[bytes]) -> None:
        """Drop the data keys of these commitments."""
        self.held.discard_where(lambda name, _: name.commitment in commitments)

    def clear(self) -> None:
        """Drop every data key, and ask again about what was refused."""
        self.held.clear()
        self._refusals.clear()

    def _service_of(self, pairs: ContextPairs, reference: InlineReference) -> tuple[Kms, str]:
        try:
            return self._services.of(reference.fingerprint)
        except KmsEnvError as error:
            used = UsedKey(material_id=material_of(reference.material_hint))
            self._watch.call_failed("unwrap", self._context_of(pairs), used, error)
            raise

    def _unwrap(self, kms: Kms, name: _Name, reference: InlineReference) -> OpeningKey:
        made_at = self._clock()
        context = self._context_of(name.pairs)
        with self._watch.kms_call("unwrap", context) as used:
            used.material_id = material_of(reference.material_hint)
            used.key_arn = name.key_arn
            cipher = _unwrapped(kms, reference, context, used)
            if not cipher.commits_to(name.commitment):
                raise CommitmentError(
                    "the envelope does not commit to the data key that it carries"
                )
        deadline = made_at + self._policy.max_age_seconds
        return OpeningKey(cipher, deadline=deadline, clock=self._clock)


def _unwrapped(
    kms: Kms, reference: InlineReference, context: Mapping[str, str], used: UsedKey
) -> ValueCipher:
    data_key = kms.unwrap(reference.wrapped, context, key_arn=str(used.key_arn))
    try:
        used.answered(data_key)
        return cipher_of(data_key)
    finally:
        # What cannot be overwritten must not stand in this frame when that is refused.
        del data_key


@lru_cache(maxsize=4096)
def _place(pairs: ContextPairs, key_arn: str) -> bytes:
    """32 bytes for where a data key belongs; a job asks for the same ones at every value."""
    return hashlib.sha256(repr((pairs, key_arn)).encode()).digest()
