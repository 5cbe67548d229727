"""Grants: permissions for one key, given and taken back by themselves."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.keys import Grant, key_arn
from sqlalchemy_kmsenv.testing.operations.pages import page
from sqlalchemy_kmsenv.testing.refusals import Refusal, invalid, not_found, unsupported

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk


def create(desk: Desk, call: Call) -> dict[str, Any]:
    """CreateGrant; the same grant under the same name is given once."""
    constraints = call.get("Constraints", {})
    if constraints.get("SourceArn") is not None or call.get("GranteePrincipal") is None:
        raise unsupported("Grants are for principals here, not for AWS services.")
    equals = constraints.get("EncryptionContextEquals")
    subset = constraints.get("EncryptionContextSubset")
    if equals and subset:
        raise invalid("Only one kind of constraint may be given.")
    found = desk.key(call).enabled()
    desk.stop_if_dry(call)
    grant = Grant(
        id=secrets.token_hex(32),
        token=secrets.token_urlsafe(48),
        region=call.region,
        key_id=found.key.id,
        grantee=call.parameters["GranteePrincipal"],
        retiring=call.get("RetiringPrincipal"),
        operations=tuple(call.parameters["Operations"]),
        context_equals=equals,
        context_subset=subset,
        name=call.get("Name"),
        created=call.now,
    )
    same = next((g for g in desk.store.grants.values() if _is_same(g, grant)), None)
    if same is None:
        desk.store.put_grant(grant)
    return {"GrantToken": grant.token if same is None else same.token,
            "GrantId": grant.id if same is None else same.id}  # fmt: skip


def list_all(desk: Desk, call: Call) -> dict[str, Any]:
    """ListGrants, of one key."""
    found = desk.key(call).not_pending()
    wanted, grantee = call.get("GrantId"), call.get("GranteePrincipal")
    grants = [
        _entry(desk, grant)
        for grant in desk.store.grants.values()
        if (grant.region, grant.key_id) == (call.region, found.key.id)
        and wanted in {None, grant.id}
        and grantee in {None, grant.grantee}
    ]
    return page(call, "Grants", grants)


def revoke(desk: Desk, call: Call) -> dict[str, Any]:
    """RevokeGrant, by whoever looks after the key."""
    found = desk.key(call).not_pending()
    grant = _by_id(desk, call, found.key.id)
    desk.stop_if_dry(call)
    desk.store.drop_grant(grant.id)
    return {}


def retire(desk: Desk, call: Call) -> dict[str, Any]:
    """RetireGrant, by token or by key and id; the retiring principal needs no permission."""
    token = call.get("GrantToken")
    if token is not None:
        grant = next((g for g in desk.store.grants.values() if g.token == token), None)
        if grant is None:
            raise Refusal("InvalidGrantTokenException", "The grant token is not valid.")
    elif call.get("KeyId") is None or call.get("GrantId") is None:
        raise invalid("Give a grant token, or a key and a grant id.")
    else:
        grant = _by_id(desk, call, desk.named(call, call.parameters["KeyId"]).id)
    may = {grant.retiring, grant.grantee if "RetireGrant" in grant.operations else None}
    if call.principal.arn not in may:
        desk.allow(call, key_arn(grant.region, desk.store.account, grant.key_id))
    desk.stop_if_dry(call)
    desk.store.drop_grant(grant.id)
    return {}


def _by_id(desk: Desk, call: Call, key_id: str) -> Grant:
    grant = desk.store.grants.get(call.parameters["GrantId"])
    if grant is None or (grant.region, grant.key_id) != (call.region, key_id):
        raise not_found("Grant is not found.")
    return grant


def _is_same(one: Grant, other: Grant) -> bool:
    if one.name is None:
        return False
    names = ("name", "region", "key_id", "grantee", "retiring", "operations",
             "context_equals", "context_subset")  # fmt: skip
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _entry(desk: Desk, grant: Grant) -> dict[str, Any]:
    pairs = {
        "EncryptionContextEquals": grant.context_equals,
        "EncryptionContextSubset": grant.context_subset,
    }
    constraints = {name: dict(value) for name, value in pairs.items() if value}
    entry = {
        "KeyId": key_arn(grant.region, desk.store.account, grant.key_id),
        "GrantId": grant.id,
        "Name": grant.name,
        "CreationDate": grant.created,
        "GranteePrincipal": grant.grantee,
        "RetiringPrincipal": grant.retiring,
        "IssuingAccount": f"arn:aws:iam::{desk.store.account}:root",
        "Operations": list(grant.operations),
        "Constraints": constraints or None,
    }
    return {name: value for name, value in entry.items() if value is not None}
