"""A keyring: the KMS key that wraps, those that may only unwrap, and the data keys in use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy_kmsenv.aead import NONCE_BYTES, ValueCipher
from sqlalchemy_kmsenv.context import static_pairs
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, material_hint
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceError, WrongCellError
from sqlalchemy_kmsenv.keyring import statements, telemetry
from sqlalchemy_kmsenv.keyring.audit import AuditHook
from sqlalchemy_kmsenv.keyring.data_keys import Clock, OpeningKey, SealingKey
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.stats import Counts, KeyringStats
from sqlalchemy_kmsenv.keyring.watch import UsedKey, Watch, material_of
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES, Kms
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
    never be left out when reading. ``audit`` is told of each use of a data key
    (``KeyUse``), and a use is refused where it raises. ``name`` is what records and
    metrics call this keyring; by default the name that it is attached under first.
    ``clock`` counts seconds and never goes back.

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
        audit: AuditHook | None = None,
        name: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if isinstance(unwrap_only, str):
            raise ConfigurationError("Keyring(unwrap_only=...) takes a list of KMS keys")
        self._kms = _kms_of(kms)
        self._services = (self._kms, *map(_kms_of, unwrap_only))
        self._policy = cache or CachePolicy()
        self._pairs = static_pairs(context)
        self.clock = clock
        self._watch = Watch(name, audit)
        self._known: dict[bytes, tuple[Kms, str]] = {}
        self._sealing: FlightStore[ContextPairs, SealingKey] = FlightStore(self._policy.max_entries)
        self._opening: FlightStore[tuple[ContextPairs, InlineReference], OpeningKey] = FlightStore(
            self._policy.max_entries
        )
        telemetry.follow(self)

    def __repr__(self) -> str:
        others = f", unwrap_only={list(self._services[1:])!r}" if self._services[1:] else ""
        return f"Keyring({self._kms!r}{others})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Keyring holds data keys and cannot be pickled; make one in each process")

    def forget(self) -> None:
        """Drop every data key that is held; the next use asks the KMS again."""
        self._sealing.clear()
        self._opening.clear()

    @property
    def name(self) -> str:
        """What records and metrics call this keyring."""
        return self._watch.label

    def call_it(self, name: str) -> None:
        """Give it a name, unless it has one."""
        self._watch.name = self._watch.name or name

    def stats(self) -> KeyringStats:
        """What it did in this process so far."""
        counts = self._watch.counts
        return KeyringStats(
            seal_hits=self._sealing.hits,
            seal_misses=self._sealing.misses,
            open_hits=self._opening.hits,
            open_misses=self._opening.misses,
            data_keys_made=counts.made,
            unwraps=counts.unwraps,
            rewraps=counts.rewraps,
            failures=dict(counts.failures),
            values_sealed=counts.sealed,
            values_opened=counts.opened,
            values_refused=counts.refused,
            held_for_sealing=len(self._sealing),
            held_for_opening=len(self._opening),
        )

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
            AuditError: the audit hook failed.
        """
        envelopes: list[bytes | bytearray] = []
        done = 0
        for key, cipher, count in self._grants(pairs, list(map(len, payloads))):
            self._tell_sealing(pairs, key, count)
            envelopes += cipher.seal_many(
                key.header(value_type),
                associated_prefix,
                sections[done : done + count],
                payloads[done : done + count],
                os.urandom(NONCE_BYTES * count),
            )
            done += count
            self._watch.counts.sealed += count
        return envelopes

    def opening_key(self, pairs: ContextPairs, reference: InlineReference) -> OpeningKey:
        """The data key that ``reference`` wraps, under exactly this context.

        Raises:
            ConfigurationError: its KMS key is not one of this keyring.
            CommitmentError: the envelope was sealed under another data key.
            WrongCellError: wrapped under another context, or altered.
            KeyServiceError: the KMS refused or failed.
            AuditError: the audit hook failed.
        """
        return self._opening.get((pairs, reference), lambda: self._unwrap(pairs, reference))

    def clock_for_opening(self, pairs: ContextPairs, reference: InlineReference) -> Clock:
        """Tell that values of one statement are about to be opened; a clock to see its end by.

        ``opening_key`` must have answered for it before. Whoever remembers the data
        key asks again, and calls this again, once its deadline is over by that clock.

        Raises:
            AuditError: the audit hook failed; the data key must not be used.
        """
        if self._watch.audit is None:
            return self.clock
        seen = statements.seen_by_statement()
        use = (id(self), pairs, reference.commitment)
        if use not in seen:
            self._watch.tell("open", self._context(pairs), self._used(reference))
            seen.add(use)
        return statements.clock_of_statement(self.clock)

    def refused(self, pairs: ContextPairs, reference: InlineReference, error: Exception) -> None:
        """Note that a value under this data key did not open."""
        self._watch.refused(self._context(pairs), self._used(reference), error)

    @property
    def counts(self) -> Counts:
        """For the readers of columns, who count the values that they open."""
        return self._watch.counts

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
        context = self._context(pairs)
        with self._watch.kms_call("generate", context) as used:
            generated = self._kms.generate_data_key(context)
            used.answered(generated)
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
        context = self._context(pairs)
        with self._watch.kms_call("unwrap", context) as used:
            used.material_id = material_of(reference.material_hint)
            kms, key_arn = self._service_of(reference.fingerprint)
            used.key_arn = key_arn
            data_key = kms.unwrap(reference.wrapped, context, key_arn=key_arn)
            used.answered(data_key)
            cipher = _cipher_of(data_key)
            if not cipher.commits_to(reference.commitment):
                raise CommitmentError(
                    "the envelope does not commit to the data key that it carries"
                )
        deadline = made_at + self._policy.max_age_seconds
        return OpeningKey(cipher, deadline=deadline, clock=self.clock)

    def _tell_sealing(self, pairs: ContextPairs, key: SealingKey, count: int) -> None:
        if self._watch.audit is not None:
            used = self._used(key.reference)
            self._watch.tell("seal", self._context(pairs), used, values=count)

    def _used(self, reference: InlineReference) -> UsedKey:
        known = self._known.get(reference.fingerprint)
        material = material_of(reference.material_hint)
        return UsedKey(None if known is None else known[1], material)

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


def _kms_of(kms: Kms | str) -> Kms:
    if isinstance(kms, str):
        return kms_from_uri(kms)
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
