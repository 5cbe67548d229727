"""The data keys that seal: made where there is none, each within its budget."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

from sqlalchemy_kmsenv.aead import ValueCipher
from sqlalchemy_kmsenv.envelope import InlineReference, material_hint
from sqlalchemy_kmsenv.errors import KeyServiceError
from sqlalchemy_kmsenv.keyring.data_keys import Clock, SealingKey, cipher_of
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.keyring.inquiries import ContextPairs
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.services import Services
from sqlalchemy_kmsenv.keyring.watch import Watch


class SealingKeys:
    """One data key for each encryption context, replaced when its budget or age is used up."""

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
        # A child that sealed with what it inherited would have the budget of its parent again.
        self.held: FlightStore[ContextPairs, SealingKey] = FlightStore(
            policy.max_entries, lifetime_seconds=policy.max_age_seconds, shared_with_children=False
        )

    def grants(
        self, pairs: ContextPairs, sizes: list[int]
    ) -> Iterator[tuple[SealingKey, ValueCipher, int]]:
        """Data keys for payloads of these sizes, each with how many of them it may seal.

        Raises:
            KeyServiceError: the KMS made no data key.
            AuditError: the audit hook failed.
        """
        while sizes:
            key = self.held.get(pairs, lambda: self._generate(pairs))
            cipher, count = key.reserve(sizes)
            if cipher is None:
                self.held.discard(pairs, key)
                continue
            yield key, cipher, count
            sizes = sizes[count:]

    def discard(self, commitments: Container[bytes]) -> None:
        """Drop the data keys of these commitments."""
        self.held.discard_where(lambda _, key: key.reference.commitment in commitments)

    def _generate(self, pairs: ContextPairs) -> SealingKey:
        made_at = self._clock()
        context = self._context_of(pairs)
        with self._watch.kms_call("generate", context) as used:
            generated = self._services.wrapping.generate_data_key(context)
            try:
                used.answered(generated)
                cipher = _usable_cipher(generated)
            except KeyServiceError:
                # It may hold a data key that could not be overwritten.
                del generated
                raise
        reference = InlineReference(
            self._services.note(generated.key_arn),
            material_hint(generated.material_id),
            cipher.commitment,
            generated.wrapped,
        )
        return SealingKey(cipher, reference, self._policy, made_at=made_at, clock=self._clock)


def _usable_cipher(generated: Any) -> ValueCipher:
    given = type(generated).__name__
    parts = [getattr(generated, name, None) for name in ("wrapped", "key_arn", "material_id")]
    kinds: tuple[Any, ...] = ((bytes, bytearray), (str,), (str, type(None)))
    if not all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        # As in cipher_of.
        del generated
        raise KeyServiceError(
            f"the KMS answered to generate_data_key with {given}, which is no GeneratedDataKey, or"
            " has parts of other types; mend the object that was given to Keyring"
        )
    try:
        return cipher_of(getattr(generated, "plaintext", None))
    finally:
        del generated
