"""A keyring: the KMS key that wraps, those that may only unwrap, and the data keys in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sqlalchemy_kmsenv.aead import NONCE_BYTES, ValueCipher
from sqlalchemy_kmsenv.context import static_pairs
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, material_hint
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError, WrongCellError
from sqlalchemy_kmsenv.keyring.data_keys import Clock, OpeningKey, SealingKey
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES, KeyDescription, Kms, inspectable
from sqlalchemy_kmsenv.kms.uri import kms_from_uri

ContextPairs = tuple[tuple[str, str], ...]
"""An encryption context without the keyring's own pairs, sorted by name."""


class CommitmentError(WrongCellError):
    """An envelope carries a data key that it was not sealed with."""


class Keyring:
    """Wraps new data keys with one KMS key; unwraps with that one and with ``unwrap_only``.

    ``kms`` and each of ``unwrap_only`` is a URI (``local:///path``,
    ``aws-kms:///alias/x``) or an object with the methods of ``Kms``. ``context``
    holds pairs that every encryption context of this keyring begins with, such as
    ``{"app": "billing", "env": "prod"}``; they are visible in CloudTrail and can
    never be left out when reading. ``clock`` counts seconds and never goes back.

    Raises:
        ConfigurationError: a URI or a pair is wrong.
    """

    def __init__(
        self,
        kms: Kms | str,
        *,
        unwrap_only: Iterable[Kms | str] = (),
        cache: CachePolicy | None = None,
        context: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if isinstance(unwrap_only, str):
            raise ConfigurationError("Keyring(unwrap_only=...) takes a list of KMS keys")
        former = tuple(map(_kms_of, unwrap_only))
        self._kms = _kms_of(kms, former)
        self._services = (self._kms, *former)
        self._policy = cache or CachePolicy()
        self._pairs = static_pairs(context)
        self.clock = clock
        self._known: dict[bytes, tuple[Kms, str]] = {}
        self._sealing: FlightStore[ContextPairs, SealingKey] = FlightStore(self._policy.max_entries)
        self._opening: FlightStore[tuple[ContextPairs, InlineReference], OpeningKey] = FlightStore(
            self._policy.max_entries
        )

    def __repr__(self) -> str:
        others = f", unwrap_only={list(self._services[1:])!r}" if self._services[1:] else ""
        return f"Keyring({self._kms!r}{others})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Keyring holds data keys and cannot be pickled; make one in each process")

    def forget(self) -> None:
        """Drop every data key that is held; the next use asks the KMS again."""
        self._sealing.clear()
        self._opening.clear()

    def twin(self, wrap: Callable[[Kms], Kms]) -> Keyring:
        """A keyring of the same keys, context and policy, that holds no data key yet.

        ``wrap`` is put around each of its key services, to count or to slow down.
        """
        own, *others = map(wrap, self._services)
        return Keyring(
            own,
            unwrap_only=others,
            cache=self._policy,
            context=self._pairs,
            clock=self.clock,
        )

    def moving_to(self, kms: Kms | str) -> Keyring:
        """A keyring that wraps with ``kms``; the KMS keys of this one may only unwrap there.

        Context and policy stay, and it holds no data key yet.

        Raises:
            ConfigurationError: a URI is refused.
        """
        return Keyring(
            kms,
            unwrap_only=self._services,
            cache=self._policy,
            context=self._pairs,
            clock=self.clock,
        )

    def describe(self) -> KeyDescription:
        """What is known of the KMS key that wraps, and of its current material. One call.

        Raises:
            KeyServiceError: the KMS refused or failed.
        """
        try:
            described = inspectable(self._kms).describe()
        except ConfigurationError:
            return KeyDescription(self._kms.resolve(), "unknown", None)
        self._known[key_fingerprint(described.arn)] = (self._kms, described.arn)
        return described

    def key_arns(self) -> dict[bytes, str]:
        """The ARN of each KMS key by its fingerprint, the one that wraps first.

        Raises:
            KeyServiceError: the KMS refused or failed to say them.
        """
        arns = [kms.resolve() for kms in self._services]
        return {key_fingerprint(arn): arn for arn in arns}

    def rewrap(self, pairs: ContextPairs, reference: InlineReference) -> InlineReference:
        """The same data key, wrapped by the KMS key that wraps now (ReEncrypt). One call.

        Its plaintext is not seen here.

        Raises:
            ConfigurationError: its KMS key is not one of this keyring.
            WrongCellError: wrapped under another context, or altered.
            KeyServiceError: the KMS refused or failed.
        """
        key_arn = self._service_of(reference.fingerprint)[1]
        renewed = self._kms.rewrap(reference.wrapped, self._context(pairs), key_arn=key_arn)
        return InlineReference(
            key_fingerprint(renewed.key_arn),
            material_hint(renewed.material_id),
            reference.commitment,
            renewed.wrapped,
        )

    def would_rewrap(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """Return where ``rewrap`` would work now; raise what it would. One call.

        Raises:
            ConfigurationError: also where the KMS cannot be asked; so below.
        """
        key_arn = self._service_of(reference.fingerprint)[1]
        inspectable(self._kms).would_rewrap(
            self._context(pairs), key_arn=key_arn, wrapped=reference.wrapped
        )

    def would_open(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """Return where the data key would be unwrapped now; raise what that would. One call."""
        kms, key_arn = self._service_of(reference.fingerprint)
        inspectable(kms).would_unwrap(
            self._context(pairs), key_arn=key_arn, wrapped=reference.wrapped
        )

    def would_seal(self, pairs: ContextPairs) -> None:
        """Return where a data key would be made now; raise what that would. One call."""
        inspectable(self._kms).would_generate(self._context(pairs))

    def seal_many(
        self,
        pairs: ContextPairs,
        value_type: int,
        associated_prefix: bytes,
        sections: Sequence[bytes],
        payloads: Sequence[bytes],
    ) -> list[bytes | bytearray]:
        """One envelope a payload, all under as few data keys as the policy allows.

        Raises:
            KeyServiceError: the KMS made no data key; nothing was sealed.
        """
        envelopes: list[bytes | bytearray] = []
        done = 0
        for key, cipher, count in self._grants(pairs, list(map(len, payloads))):
            envelopes += cipher.seal_many(
                key.header(value_type),
                associated_prefix,
                sections[done : done + count],
                payloads[done : done + count],
                os.urandom(NONCE_BYTES * count),
            )
            done += count
        return envelopes

    def opening_key(self, pairs: ContextPairs, reference: InlineReference) -> OpeningKey:
        """The data key that ``reference`` wraps, under exactly this context.

        Raises:
            ConfigurationError: its KMS key is not one of this keyring.
            CommitmentError: the envelope was sealed under another data key.
            WrongCellError: wrapped under another context, or altered.
            KeyServiceError: the KMS refused or failed.
        """
        return self._opening.get((pairs, reference), lambda: self._unwrap(pairs, reference))

    def _grants(
        self, pairs: ContextPairs, sizes: list[int]
    ) -> Iterator[tuple[SealingKey, ValueCipher, int]]:
        while sizes:
            key = self._sealing.get(pairs, lambda: self._generate(pairs))
            cipher, count = key.reserve(sizes)
            if cipher is None:
                self._sealing.discard(pairs, key)
                continue
            yield key, cipher, count
            sizes = sizes[count:]

    def _generate(self, pairs: ContextPairs) -> SealingKey:
        made_at = self.clock()
        generated = self._kms.generate_data_key(self._context(pairs))
        cipher = _cipher_of(generated.plaintext)
        fingerprint = key_fingerprint(generated.key_arn)
        self._known[fingerprint] = (self._kms, generated.key_arn)
        reference = InlineReference(
            fingerprint,
            material_hint(generated.material_id),
            cipher.commitment,
            generated.wrapped,
        )
        return SealingKey(cipher, reference, self._policy, made_at=made_at, clock=self.clock)

    def _unwrap(self, pairs: ContextPairs, reference: InlineReference) -> OpeningKey:
        made_at = self.clock()
        kms, key_arn = self._service_of(reference.fingerprint)
        cipher = _cipher_of(kms.unwrap(reference.wrapped, self._context(pairs), key_arn=key_arn))
        if not cipher.commits_to(reference.commitment):
            raise CommitmentError("the envelope does not commit to the data key that it carries")
        deadline = made_at + self._policy.max_age_seconds
        return OpeningKey(cipher, deadline=deadline, clock=self.clock)

    def _service_of(self, fingerprint: bytes) -> tuple[Kms, str]:
        known = self._known.get(fingerprint)
        if known is not None:
            return known
        for kms in self._services:
            key_arn = kms.resolve()
            self._known.setdefault(key_fingerprint(key_arn), (kms, key_arn))
            if key_fingerprint(key_arn) == fingerprint:
                return self._known[fingerprint]
        raise ConfigurationError(
            f"the value was sealed under a KMS key (fingerprint {fingerprint.hex()}) that"
            f" {self!r} does not list; add that key to Keyring(unwrap_only=[...])"
        )

    def _context(self, pairs: ContextPairs) -> dict[str, str]:
        clash = self._pairs.keys() & dict(pairs).keys()
        if clash:
            raise ConfigurationError(
                f"Keyring(context=...) names {sorted(clash)} that scope columns name too; one of"
                " both would hide the other, so rename the pair of the keyring"
            )
        return {**self._pairs, **dict(pairs)}


def _kms_of(kms: Kms | str, former: Iterable[Kms] = ()) -> Kms:
    if isinstance(kms, str):
        return kms_from_uri(kms, rewraps_from=former)
    if not isinstance(kms, Kms):
        raise ConfigurationError(
            f"Keyring takes a KMS URI or an object like Kms, got {type(kms).__name__}"
        )
    return kms


def _cipher_of(data_key: bytearray) -> ValueCipher:
    try:
        if len(data_key) != DATA_KEY_BYTES:
            raise KeyServiceError(
                f"the KMS gave a data key of {len(data_key)} bytes instead of {DATA_KEY_BYTES}"
            )
        return ValueCipher(data_key)
    finally:
        # Best effort: Python and the HTTP client may have made copies before.
        data_key[:] = bytes(len(data_key))
