"""What a keyring tells of its work: numbers, spans, and a record of each use of a data key."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy_kmsenv.envelope import UNKNOWN_MATERIAL
from sqlalchemy_kmsenv.errors import AuditError, ConfigurationError
from sqlalchemy_kmsenv.keyring import telemetry
from sqlalchemy_kmsenv.keyring.audit import AuditHook, KeyUse, Operation, RefusalKind
from sqlalchemy_kmsenv.keyring.stats import Counts


@dataclass(slots=True)
class UsedKey:
    """What is known of the data key that is used; a call to the KMS adds to it."""

    key_arn: str | None = None
    material_id: str | None = None
    request_id: str | None = None

    def answered(self, answer: object) -> None:
        """Keep what an answer of the KMS tells; not every ``Kms`` tells all of it."""
        for name in ("key_arn", "material_id", "request_id"):
            told = getattr(answer, name, None)
            if isinstance(told, str):
                setattr(self, name, told)

    def facts(self) -> dict[str, str]:
        """What a span shows of it."""
        known = {"kmsenv.key_arn": self.key_arn, "kmsenv.request_id": self.request_id}
        return {name: value for name, value in known.items() if value is not None}


class Watch:
    """Counts what a keyring does, and tells its audit hook."""

    def __init__(self, name: str | None, audit: AuditHook | None) -> None:
        if audit is not None and not callable(audit):
            raise ConfigurationError(
                f"Keyring(audit=...) takes a callable that is given each KeyUse, got"
                f" {type(audit).__name__}"
            )
        self.name = name
        self.audit = audit
        self.counts = Counts()

    @contextmanager
    def kms_call(self, operation: Operation, context: Mapping[str, str]) -> Iterator[UsedKey]:
        """Around one call to the KMS and what makes its answer usable.

        Raises:
            AuditError: the call was answered, but the audit hook failed.
        """
        used = UsedKey()
        with telemetry.kms_call(operation, self.label) as facts:
            try:
                yield used
            except Exception as error:
                self.call_failed(operation, context, used, error)
                raise
            finally:
                facts.update(used.facts())
            self._count(operation)
            self.tell(operation, context, used)

    def call_failed(
        self, operation: Operation, context: Mapping[str, str], used: UsedKey, error: Exception
    ) -> None:
        """Count and tell of a call that failed, or that could not be made."""
        used.request_id = getattr(error, "request_id", None) or used.request_id
        self.counts.failures[type(error).__name__] += 1
        self._tell_refusal(error, operation, context, used, values=None)

    def tell(
        self,
        operation: Operation,
        context: Mapping[str, str],
        used: UsedKey,
        *,
        values: int | None = None,
        error: str | None = None,
        refusal: RefusalKind | None = None,
    ) -> None:
        """Tell the audit hook of one use.

        Raises:
            AuditError: it failed, so the use must not take place.
        """
        if self.audit is None:
            return
        use = KeyUse(
            at=datetime.datetime.now(datetime.UTC),
            operation=operation,
            keyring=self.label,
            context=dict(context),
            key_arn=used.key_arn,
            material=used.material_id,
            values=values,
            error=error,
            refusal=refusal,
            request_id=used.request_id,
        )
        try:
            self.audit(use)
        except Exception as failure:
            raise AuditError(
                f"{operation} is refused: the audit hook of keyring {self.label!r} failed"
                f" ({type(failure).__name__}); mend the hook, or what it writes to"
            ) from failure

    def refused(
        self, context: Mapping[str, str], used: UsedKey, error: Exception, kind: RefusalKind
    ) -> None:
        """Count and tell of a stored value that did not open."""
        self.counts.refusals[kind] += 1
        self._tell_refusal(error, "open", context, used, values=1, refusal=kind)

    @property
    def label(self) -> str:
        """The keyring's name, as records and metrics show it."""
        return self.name or "unnamed"

    def _tell_refusal(
        self,
        error: Exception,
        operation: Operation,
        context: Mapping[str, str],
        used: UsedKey,
        *,
        values: int | None,
        refusal: RefusalKind | None = None,
    ) -> None:
        try:
            self.tell(
                operation, context, used,
                values=values, error=type(error).__name__, refusal=refusal,
            )  # fmt: skip
        except AuditError as failure:
            # Nothing was used, so nothing has to be refused; the first error says more.
            error.add_note(str(failure))

    def _count(self, operation: Operation) -> None:
        counts = self.counts
        if operation == "generate":
            counts.made += 1
        elif operation == "unwrap":
            counts.unwraps += 1
        else:
            counts.rewraps += 1


def material_of(hint: bytes) -> str | None:
    """The key material that an envelope names, as records show it."""
    return None if hint == UNKNOWN_MATERIAL else hint.hex()
