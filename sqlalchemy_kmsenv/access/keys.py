"""Is a KMS key there, and is it one that can be worked with?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy_kmsenv.access.checks import Check, check
from sqlalchemy_kmsenv.access.policies import Role
from sqlalchemy_kmsenv.errors import KeyServiceDeniedError, KmsEnvError
from sqlalchemy_kmsenv.kms.protocol import (
    InspectableKms,
    KeyDescription,
    Kms,
    ReplicatedKms,
    RotatingKms,
    inspectable,
)

CREDENTIALS = "credentials found"
REACHABLE = "key reachable"
DESCRIBED = "key can be described"
ENABLED = "key enabled"
SYMMETRIC = "key symmetric"
ROTATION = "rotation on"

_MUST_DESCRIBE = {Role.REWRAP, Role.AUDITOR}
# Who calls is known, and may not do this; all other denials are about who calls.
_NOT_ALLOWED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ForbiddenException",
        "InvalidGrantIdException",
        "InvalidGrantTokenException",
        "NotAuthorized",
        "UnauthorizedOperation",
    }
)


def replicas_of(kms: Kms) -> Sequence[InspectableKms]:
    """The key in the other Regions in which it unwraps.

    None where its name cannot be looked up: what is asked of the key itself says so.
    """
    try:
        return kms.replicas() if isinstance(kms, ReplicatedKms) else ()
    except KmsEnvError:
        return ()


def key_checks(subject: str, kms: Kms, roles: frozenset[Role]) -> Iterator[Check]:
    """What the service says of a key.

    A writer or a reader need not be allowed to ask; where only such roles are
    examined, what may not be asked stays out, and the permissions say enough.
    """
    try:
        found = inspectable(kms).describe()
    except KmsEnvError as failure:
        yield from _not_described(subject, failure, must=not roles.isdisjoint(_MUST_DESCRIBE))
        return
    yield check(subject, CREDENTIALS, passed=True)
    yield check(subject, REACHABLE, passed=True, detail=found.arn)
    yield from _described(subject, found)
    if isinstance(kms, RotatingKms):
        yield from _rotation(subject, kms, must=Role.AUDITOR in roles)


def _not_described(subject: str, failure: KmsEnvError, *, must: bool) -> Iterator[Check]:
    if isinstance(failure, KeyServiceDeniedError) and not _allowed_others(failure):
        yield check(subject, CREDENTIALS, passed=False, detail=str(failure))
        return
    yield check(subject, CREDENTIALS, passed=True)
    if not isinstance(failure, KeyServiceDeniedError):
        yield check(subject, REACHABLE, passed=False, detail=str(failure))
        return
    yield check(subject, REACHABLE, passed=True, detail="it answers, but may not be described")
    if must:
        yield check(subject, DESCRIBED, passed=False, detail=str(failure))


def _allowed_others(failure: KeyServiceDeniedError) -> bool:
    return failure.code in _NOT_ALLOWED and failure.operation != "AssumeRole"


def _described(subject: str, found: KeyDescription) -> Iterator[Check]:
    yield check(subject, ENABLED, passed=found.state == "Enabled", detail=found.state)
    symmetric = found.spec == "SYMMETRIC_DEFAULT" and found.usage == "ENCRYPT_DECRYPT"
    yield check(subject, SYMMETRIC, passed=symmetric, detail=f"{found.spec}, {found.usage}")


def _rotation(subject: str, kms: RotatingKms, *, must: bool) -> Iterator[Check]:
    try:
        rotation = kms.rotation()
    except KmsEnvError as failure:
        if must or not isinstance(failure, KeyServiceDeniedError):
            yield check(subject, ROTATION, passed=False, detail=str(failure))
        return
    every = "" if rotation.period_days is None else f"every {rotation.period_days} days"
    following = "" if rotation.next_at is None else f"next {rotation.next_at.date().isoformat()}"
    told = ", ".join(filter(None, (every, following)))
    detail = told if rotation.enabled else "old key material wraps for ever"
    yield check(subject, ROTATION, passed=rotation.enabled, detail=detail)
