"""May these roles do what they do with each column? Asked by DryRun; nothing is done."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy_kmsenv.access.checks import Check, ask
from sqlalchemy_kmsenv.access.contexts import ColumnContext
from sqlalchemy_kmsenv.access.keys import replicas_of
from sqlalchemy_kmsenv.access.policies import Role
from sqlalchemy_kmsenv.access.samples import Sample
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.kms.protocol import EncryptionContext, Kms, inspectable

MAY_MAKE = "may make data keys"
MAY_UNWRAP = "may unwrap data keys"
MAY_REWRAP = "may wrap data keys anew"


def permission_checks(
    subject: str,
    keyring: Keyring,
    column: ColumnContext,
    roles: frozenset[Role],
    sample: Sample | None,
) -> Iterator[Check]:
    """One line for each permission of each key.

    ``sample`` is a data key that the column has: where it fits, the service is asked
    about that one, and otherwise about its permissions alone.
    """
    wrapping = keyring.services[0]
    if Role.WRITER in roles:
        pairs = column.sample()
        yield ask(subject, MAY_MAKE, lambda: inspectable(wrapping).would_generate(pairs))
    for kms in keyring.services:
        if Role.READER in roles:
            # A role that may not unwrap in a replica's Region fails when its own is down.
            for place in (kms, *replicas_of(kms)):
                yield _key_use(subject, place, None, column, sample)
        if Role.REWRAP in roles:
            yield _key_use(subject, kms, wrapping, column, sample)


def _key_use(
    subject: str, kms: Kms, target: Kms | None, column: ColumnContext, sample: Sample | None
) -> Check:
    """Unwrapping by ``kms``, or moving its data keys to ``target``."""

    def call() -> None:
        key_arn = kms.resolve()
        pairs: EncryptionContext = column.sample()
        wrapped = None
        if sample is not None and sample.fits(column, key_arn):
            pairs, wrapped = sample.context, sample.reference.wrapped
        if target is None:
            inspectable(kms).would_unwrap(pairs, key_arn=key_arn, wrapped=wrapped)
        else:
            inspectable(target).would_rewrap(pairs, key_arn=key_arn, wrapped=wrapped)

    question = MAY_UNWRAP if target is None else MAY_REWRAP
    return ask(subject, question, call, done=repr(kms))
