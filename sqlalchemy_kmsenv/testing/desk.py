"""The desk of the service: finds the key of a call, and lets through whom policies allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.testing.keys import ENCRYPTS, SYMMETRIC, Grant
from sqlalchemy_kmsenv.testing.lookup import Found, Lag, Named, find, resolve
from sqlalchemy_kmsenv.testing.policies import Question
from sqlalchemy_kmsenv.testing.refusals import Refusal

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.conditions import Facts
    from sqlalchemy_kmsenv.testing.store import Store

_NO_LAG = Lag()


@dataclass(frozen=True, slots=True)
class Desk:
    """What the operations need besides their parameters."""

    store: Store
    lag: Lag = _NO_LAG
    rotation_seconds: float = 0.0

    def key(
        self,
        call: Call,
        *,
        parameter: str = "KeyId",
        action: str | None = None,
        context: Mapping[str, str] | None = None,
        facts: Facts | None = None,
    ) -> Found:
        """The key that a parameter names, for a caller who may do ``action`` with it.

        ``action`` is the operation unless it is given; ``context`` is None where the
        operation has no encryption context.

        Raises:
            Refusal: ``AccessDeniedException``, ``NotFoundException``, ``InvalidArnException``.
        """
        named = self.named(call, call.parameters[parameter])
        return self.admit(call, named, action=action, context=context, facts=facts)

    def named(self, call: Call, key_id: str) -> Named:
        """What a key id means in the Region of the call; see ``resolve``."""
        return resolve(self.store, call.region, key_id, now=call.now, lag=self._lag_for(call))

    def admit(
        self,
        call: Call,
        named: Named,
        *,
        action: str | None = None,
        context: Mapping[str, str] | None = None,
        facts: Facts | None = None,
    ) -> Found:
        """The key itself, for a caller who may do ``action`` with it; see ``key``."""
        try:
            found = find(self.store, named, now=call.now, lag=self._lag_for(call))
        except Refusal:
            # Who may not use a key does not learn whether it is there.
            self.allow(call, named.arn, action=action, context=context, facts=facts or {})
            raise
        known = {**_of_key(found, self.store), **_of_usage(found, context), **(facts or {})}
        grants = self._grants(call, found)
        self.allow(call, found.arn, action=action, context=context, facts=known, grants=grants)
        return found

    def allow(
        self,
        call: Call,
        resource: str,
        *,
        action: str | None = None,
        context: Mapping[str, str] | None = None,
        facts: Facts | None = None,
        grants: Sequence[Grant] = (),
    ) -> None:
        """Let the call pass.

        Raises:
            Refusal: ``AccessDeniedException``.
        """
        name = action or call.operation
        known = {**_of_caller(call, self.store.account), **_of_context(context), **(facts or {})}
        effect = call.principal.policy.effect(Question(f"kms:{name}", resource, known))
        if effect == "Allow":
            return
        if effect is None and any(grant.admits(name, context) for grant in grants):
            return
        reason = "with an explicit deny" if effect == "Deny" else "because no policy allows it"
        message = (
            f"User: {call.principal.arn} is not authorized to perform: kms:{name} "
            f"on resource: {resource} {reason}"
        )
        raise Refusal("AccessDeniedException", message)

    def knows(self, region: str, key_id: str) -> bool:
        """Whether the Region has such a key."""
        return self.store.keys.get((region, key_id)) is not None

    def stop_if_dry(self, call: Call) -> None:
        """End a dry run.

        Raises:
            Refusal: ``DryRunOperationException``: the call would have been carried out.
        """
        if call.dry_run:
            message = "The request would have succeeded, but the DryRun option is set."
            raise Refusal("DryRunOperationException", message)

    def _grants(self, call: Call, found: Found) -> list[Grant]:
        tokens = set(call.get("GrantTokens", ()))
        known = {grant.token for grant in self.store.grants.values()}
        if tokens - known:
            raise Refusal("InvalidGrantTokenException", "A grant token is not valid.")
        return [
            grant
            for grant in self.store.grants.values()
            if (grant.region, grant.key_id) == (found.key.region, found.key.id)
            and grant.grantee == call.principal.arn
            # A token makes a grant count before the whole service knows of it.
            and (grant.token in tokens or grant.created <= call.now - self.lag.grants)
        ]

    def _lag_for(self, call: Call) -> Lag:
        return self.lag if call.operation in _LATE else _NO_LAG


# Changes are made to what is true; only use and description may be late.
_LATE = frozenset(
    {
        "Decrypt",
        "DescribeKey",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "ReEncrypt",
        "VerifyMac",
    }
)


def _of_caller(call: Call, account: str) -> Facts:
    return {
        "aws:principalaccount": (account,),
        "aws:principalarn": (call.principal.arn,),
        "aws:requestedregion": (call.region,),
        "kms:calleraccount": (account,),
    }


def _of_context(context: Mapping[str, str] | None) -> Facts:
    if not context:
        return {}
    facts: dict[str, tuple[str, ...]] = {"kms:encryptioncontextkeys": tuple(context)}
    for name, value in context.items():
        key = f"kms:encryptioncontext:{name.lower()}"
        # Names that differ by case alone share a condition key: all their values must fit.
        facts[key] = (*facts.get(key, ()), value)
    return facts


def _of_key(found: Found, store: Store) -> Facts:
    aliases = tuple(alias.name for alias in store.aliases_of(found.key))
    multi = found.backing.multi_region
    kind = "PRIMARY" if found.is_primary else "REPLICA"
    return {
        "kms:keyorigin": ("AWS_KMS",),
        "kms:keyspec": (found.backing.spec,),
        "kms:keyusage": (found.backing.usage,),
        "kms:multiregion": ("true" if multi else "false",),
        **({"kms:multiregionkeytype": (kind,)} if multi else {}),
        **({"kms:resourcealiases": aliases} if aliases else {}),
        **({"kms:requestalias": (found.alias,)} if found.alias else {}),
    }


def _of_usage(found: Found, context: Mapping[str, str] | None) -> Facts:
    encrypts = context is not None and found.backing.usage == ENCRYPTS
    return {"kms:encryptionalgorithm": (SYMMETRIC,)} if encrypts else {}
