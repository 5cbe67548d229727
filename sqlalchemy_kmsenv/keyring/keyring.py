"""A keyring: the KMS key that wraps, those that may only unwrap, and the data keys in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy_kmsenv.aead import NONCE_BYTES
from sqlalchemy_kmsenv.context import static_pairs
from sqlalchemy_kmsenv.envelope import InlineReference, key_fingerprint, material_hint
from sqlalchemy_kmsenv.keyring import statements, telemetry
from sqlalchemy_kmsenv.keyring.audit import AuditHook, RefusalKind
from sqlalchemy_kmsenv.keyring.data_keys import Clock, OpeningKey, SealingKey
from sqlalchemy_kmsenv.keyring.inquiries import ContextPairs, Inquiries
from sqlalchemy_kmsenv.keyring.opening_keys import OpeningKeys
from sqlalchemy_kmsenv.keyring.policy import CachePolicy
from sqlalchemy_kmsenv.keyring.revocations import ReadRevoked, Revocations
from sqlalchemy_kmsenv.keyring.sealing_keys import SealingKeys
from sqlalchemy_kmsenv.keyring.services import Services
from sqlalchemy_kmsenv.keyring.stats import Counts, KeyringStats, Numbers
from sqlalchemy_kmsenv.keyring.watch import UsedKey, Watch, material_of
from sqlalchemy_kmsenv.kms.protocol import Kms


class Keyring(Inquiries):
    """Wraps new data keys with one KMS key; unwraps with that one and with ``unwrap_only``.

    ``kms`` and each of ``unwrap_only`` is a URI (``local:///path``,
    ``aws-kms:///alias/x``) or an object with the methods of ``Kms``. ``context``
    holds pairs that every encryption context of this keyring begins with, such as
    ``{"app": "billing", "env": "prod"}``; they are visible in CloudTrail and can
    never be left out when reading. ``audit`` is told of each use of a data key
    (``KeyUse``), and a use is refused where it raises. ``revoked`` are the commitments
    of data keys that may have leaked, in hexadecimal: nothing sealed under one opens
    any more. ``revoked_from`` is called for more of them, at most once a minute, such
    as ``RevokedDataKeys``, a table. ``name`` is what records and
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
        revoked: Iterable[str] = (),
        revoked_from: ReadRevoked | None = None,
        name: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._services = Services(kms, unwrap_only, clock)
        self._policy = cache or CachePolicy()
        self._pairs = static_pairs(context)
        self.clock = clock
        self._watch = Watch(name, audit)
        self._revocations = Revocations(revoked, revoked_from, clock)
        about = (self._services, self._watch, self._context, self._policy, clock)
        self._sealed, self._opened = SealingKeys(*about), OpeningKeys(*about)
        self._sealing, self._opening = self._sealed.held, self._opened.held
        self._numbers = Numbers(self._watch.counts, self._sealing.tally, self._opening.tally)
        telemetry.follow(self, self._watch, self._numbers)

    def __repr__(self) -> str:
        return f"Keyring({self._services!r})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Keyring holds data keys and cannot be pickled; make one in each process")

    def forget(self) -> None:
        """Drop every data key that is held; the next use asks the KMS again."""
        self._sealing.clear()
        self._opened.clear()

    @property
    def revoked(self) -> frozenset[str]:
        """The commitments of the data keys that are refused, in hexadecimal."""
        return frozenset(commitment.hex() for commitment in self._revocations.commitments)

    def revoke(self, *commitments: str) -> None:
        """Refuse these data keys from now on, in this process; ``revoked=`` does it in all.

        Raises:
            ConfigurationError: one is no commitment (64 hexadecimal digits).
        """
        self._revocations.add(commitments)
        self._drop_revoked()

    @property
    def name(self) -> str:
        """What records and metrics call this keyring."""
        return self._watch.label

    def call_it(self, name: str) -> None:
        """Give it a name, unless it has one."""
        self._watch.name = self._watch.name or name

    def stats(self) -> KeyringStats:
        """What it did in this process so far."""
        return self._numbers.stats(
            held_for_sealing=len(self._sealing), held_for_opening=len(self._opening)
        )

    def twin(self, wrap: Callable[[Kms], Kms]) -> Keyring:
        """A keyring of the same keys, context and policy, that holds no data key yet.

        ``wrap`` is put around each of its key services, to count or to slow down.
        """
        own, *others = map(wrap, self._services.all)
        return self._like_this(own, others)

    def moving_to(self, kms: Kms | str) -> Keyring:
        """A keyring that wraps with ``kms``; the KMS keys of this one may only unwrap there.

        Context and policy stay, and it holds no data key yet.

        Raises:
            ConfigurationError: a URI is refused.
        """
        return self._like_this(kms, self._services.all)

    def rewrap(self, pairs: ContextPairs, reference: InlineReference) -> InlineReference:
        """The same data key, wrapped by the KMS key that wraps now (ReEncrypt). One call.

        Its plaintext is not seen here.

        Raises:
            ConfigurationError: its KMS key is not one of this keyring.
            WrongCellError: wrapped under another context, or altered.
            KeyServiceError: the KMS refused or failed.
            AuditError: the audit hook failed.
        """
        return self.rewrap_from(pairs, reference)[0]

    def rewrap_from(
        self, pairs: ContextPairs, reference: InlineReference
    ) -> tuple[InlineReference, bytes]:
        """As ``rewrap``, with the hint of the material that had wrapped it; zeros where unknown."""
        context = self._context(pairs)
        with self._watch.kms_call("rewrap", context) as used:
            used.key_arn = key_arn = self._services.of(reference.fingerprint)[1]
            renewed = self._services.wrapping.rewrap(reference.wrapped, context, key_arn=key_arn)
            used.answered(renewed)
        made = InlineReference(
            key_fingerprint(renewed.key_arn),
            material_hint(renewed.material_id),
            reference.commitment,
            renewed.wrapped,
        )
        return made, material_hint(renewed.source_material_id)

    def confirm(self, pairs: ContextPairs, reference: InlineReference) -> None:
        """Return where the KMS says that a header is true; whatever is held does not count.

        Under this context and by the KMS key and material that it names, it wraps the
        data key that it commits to. One call (Decrypt).

        Raises:
            CommitmentError: it wraps another data key, or by other material.
            As ``opening_key`` otherwise.
        """
        self._opened.confirm(pairs, reference)

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
        self._look_for_revoked()
        for key, cipher, count in self._sealed.grants(pairs, list(map(len, payloads))):
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
            RevokedKeyError: it is one of ``revoked``.
        """
        self._look_for_revoked()
        self._revocations.check(reference.commitment)
        key = self._opened.get(pairs, reference)
        # Once more: it may have been revoked while it was being unwrapped.
        self._revocations.check(reference.commitment)
        return key

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

    def refused(
        self,
        pairs: ContextPairs,
        reference: InlineReference | None,
        error: Exception,
        kind: RefusalKind,
    ) -> None:
        """Note that a value under this data key, as far as there is one, did not open."""
        used = UsedKey() if reference is None else self._used(reference)
        self._watch.refused(self._context(pairs), used, error, kind)

    @property
    def counts(self) -> Counts:
        """For readers of columns, who count what they open."""
        return self._watch.counts

    def _look_for_revoked(self) -> None:
        if self._revocations.refresh():
            self._drop_revoked()

    def _drop_revoked(self) -> None:
        revoked = self._revocations.commitments
        self._opened.discard(revoked)
        self._sealed.discard(revoked)

    def _tell_sealing(self, pairs: ContextPairs, key: SealingKey, count: int) -> None:
        if self._watch.audit is not None:
            used = self._used(key.reference)
            self._watch.tell("seal", self._context(pairs), used, values=count)

    def _used(self, reference: InlineReference) -> UsedKey:
        key_arn = self._services.arn_of(reference.fingerprint)
        return UsedKey(key_arn, material_of(reference.material_hint))

    def _like_this(self, kms: Kms | str, unwrap_only: Iterable[Kms]) -> Keyring:
        return Keyring(
            kms,
            unwrap_only=unwrap_only,
            cache=self._policy,
            context=self._pairs,
            audit=self._watch.audit,
            revoked=self.revoked,
            revoked_from=self._revocations.source,
            name=self._watch.name,
            clock=self.clock,
        )
