"""Aliases."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.keys import Alias, alias_arn
from sqlalchemy_kmsenv.testing.operations.pages import page
from sqlalchemy_kmsenv.testing.refusals import Refusal, invalid, not_found

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk
    from sqlalchemy_kmsenv.testing.lookup import Found

_NAME = re.compile(r"alias/[a-zA-Z0-9/_-]+")


def create(desk: Desk, call: Call) -> dict[str, Any]:
    """CreateAlias."""
    name = _checked_name(call)
    desk.allow(call, alias_arn(call.region, desk.store.account, name))
    found = _target(desk, call)
    if desk.store.aliases.get((call.region, name)) is not None:
        message = f"An alias with the name {_arn(desk, call)} already exists"
        raise Refusal("AlreadyExistsException", message)
    alias = Alias(name, found.key.id, call.now, call.now)
    desk.store.put_alias(call.region, name, alias, call.now)
    return {}


def update(desk: Desk, call: Call) -> dict[str, Any]:
    """UpdateAlias: needs the permission for the alias and for both keys."""
    desk.allow(call, _arn(desk, call))
    alias = _existing(desk, call)
    old = desk.admit(call, desk.named(call, alias.key_id))
    found = _target(desk, call)
    if (old.backing.spec, old.backing.usage) != (found.backing.spec, found.backing.usage):
        raise invalid("The keys of an alias must be of the same type and usage.")
    moved = replace(alias, key_id=found.key.id, updated=call.now)
    desk.store.put_alias(call.region, alias.name, moved, call.now)
    return {}


def delete(desk: Desk, call: Call) -> dict[str, Any]:
    """DeleteAlias: needs the permission for the alias and for the key."""
    desk.allow(call, _arn(desk, call))
    alias = _existing(desk, call)
    desk.admit(call, desk.named(call, alias.key_id))
    desk.store.put_alias(call.region, alias.name, None, call.now)
    return {}


def list_all(desk: Desk, call: Call) -> dict[str, Any]:
    """ListAliases, of the Region or of one key."""
    desk.allow(call, "*")
    wanted = None if call.get("KeyId") is None else desk.named(call, call.get("KeyId")).id
    aliases = [
        {
            "AliasName": alias.name,
            "AliasArn": alias_arn(region, desk.store.account, alias.name),
            "TargetKeyId": alias.key_id,
            "CreationDate": alias.created,
            "LastUpdatedDate": alias.updated,
        }
        for (region, _), alias in desk.store.aliases.items()
        if region == call.region and wanted in {None, alias.key_id}
    ]
    return page(call, "Aliases", aliases)


def _checked_name(call: Call) -> str:
    name: str = call.parameters["AliasName"]
    if not _NAME.fullmatch(name):
        raise invalid('Alias must start with the prefix "alias/", and hold A-Z, 0-9, / _ -.')
    if name.startswith("alias/aws/"):
        raise Refusal("NotAuthorizedException", "alias/aws/ belongs to AWS.")
    return name


def _target(desk: Desk, call: Call) -> Found:
    key_id: str = call.parameters["TargetKeyId"]
    if "alias/" in key_id:
        raise invalid("Aliases must refer to keys. Not aliases")
    return desk.key(call, parameter="TargetKeyId").not_pending()


def _existing(desk: Desk, call: Call) -> Alias:
    alias = desk.store.aliases.get((call.region, call.parameters["AliasName"]))
    if alias is None:
        raise not_found(f"Alias {_arn(desk, call)} is not found.")
    return alias


def _arn(desk: Desk, call: Call) -> str:
    return alias_arn(call.region, desk.store.account, call.parameters["AliasName"])
