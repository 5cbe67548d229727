"""Everything that can be asked before the first value is written in production."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.access.checks import Check, check
from sqlalchemy_kmsenv.access.clocks import clock_check, policy_checks
from sqlalchemy_kmsenv.access.contexts import ScopeValues, column_contexts
from sqlalchemy_kmsenv.access.keys import CREDENTIALS, key_checks, replicas_of
from sqlalchemy_kmsenv.access.permissions import permission_checks
from sqlalchemy_kmsenv.access.policies import Role
from sqlalchemy_kmsenv.access.samples import LOOKED_AT, Look, look
from sqlalchemy_kmsenv.access.schema import schema_checks
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring

ENVELOPES = "values are envelopes"
# Replicas unwrap, and do nothing else.
_IN_REPLICAS = frozenset({Role.READER, Role.AUDITOR})
USUAL_ROLES = (Role.WRITER, Role.READER)


def examine(
    engine: Engine,
    bindings: Iterable[Binding],
    *,
    roles: Iterable[Role] = USUAL_ROLES,
    scope_values: ScopeValues | None = None,
) -> Iterator[Check]:
    """The answers, as they are found; nothing is written, made, unwrapped or opened.

    ``bindings`` are those of the columns in question, ``roles`` what the credentials
    at hand are for. ``scope_values`` narrows the permissions asked for to some values
    of the scope columns, for a role that is limited to them.

    Raises:
        ConfigurationError: no column, no role, or no keyring is attached.
    """
    listed, wanted = list(bindings), frozenset(roles)
    if not listed or not wanted:
        raise ConfigurationError("there is nothing to examine: give columns and roles")
    contexts = column_contexts(listed, scope_values)
    keyrings = {binding.keyring_name: keyring_of(binding) for binding in listed}
    usable: set[str] = set()
    for name, keyring in keyrings.items():
        found = list(_keyring(name, keyring, wanted))
        yield from found
        if all(one.passed for one in found if one.question == CREDENTIALS):
            usable.add(name)
    with engine.connect() as connection:
        yield from clock_check(connection)
        for binding, context in zip(listed, contexts, strict=True):
            subject = f"{binding.column.table.fullname}.{binding.column.name}"
            yield from schema_checks(subject, connection, binding)
            seen, answer = _values(subject, connection, binding)
            yield answer
            # Without credentials every permission would be the same line again.
            if binding.keyring_name in usable:
                sample = None if seen is None else seen.sample
                keyring = keyrings[binding.keyring_name]
                yield from permission_checks(subject, keyring, context, wanted, sample)


def _keyring(name: str, keyring: Keyring, roles: frozenset[Role]) -> Iterator[Check]:
    for number, kms in enumerate(keyring.services):
        role = f"keyring {name}" if number == 0 else f"keyring {name}, unwrap only {number}"
        yield from key_checks(role, kms, roles)
        for replica in replicas_of(kms) if roles & _IN_REPLICAS else ():
            where = replica.resolve().split(":")[3]
            yield from key_checks(f"{role}, replica in {where}", replica, roles & _IN_REPLICAS)
    yield from policy_checks(f"keyring {name}", keyring)


def _values(subject: str, connection: Connection, binding: Binding) -> tuple[Look | None, Check]:
    try:
        # Where the column is absent PostgreSQL would take no further statement.
        with connection.begin_nested():
            seen = look(connection, binding)
    except DBAPIError as error:
        detail = f"they cannot be read: {type(error.orig).__name__}"
        return None, check(subject, ENVELOPES, passed=False, detail=detail)
    looked = f"of the {seen.values} that were looked at" if seen.values else "there are none yet"
    more = "; kmsenv survey counts them all" if seen.values == LOOKED_AT else ""
    detail = f"{seen.not_envelopes} are not, {looked}{more}" if seen.values else looked
    return seen, check(subject, ENVELOPES, passed=seen.not_envelopes == 0, detail=detail)
