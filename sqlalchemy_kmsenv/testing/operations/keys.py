"""Making, describing, switching, replicating and deleting keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.keys import (
    ENCRYPTS,
    HMAC_BYTES,
    MACS,
    SYMMETRIC,
    Backing,
    Key,
    new_key_id,
    new_material,
)
from sqlalchemy_kmsenv.testing.lookup import Found
from sqlalchemy_kmsenv.testing.operations.pages import page
from sqlalchemy_kmsenv.testing.refusals import Refusal, invalid, unsupported, wrong_state
from sqlalchemy_kmsenv.testing.store import SECONDS_A_DAY

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk

_WINDOW_DAYS = range(7, 31)


def create(desk: Desk, call: Call) -> dict[str, Any]:
    """CreateKey: symmetric keys and HMAC keys."""
    desk.allow(call, "*")
    _refuse_policies(call)
    spec = call.get("KeySpec") or call.get("CustomerMasterKeySpec") or SYMMETRIC
    usage = call.get("KeyUsage", ENCRYPTS)
    if spec not in {SYMMETRIC, *HMAC_BYTES}:
        raise unsupported(f"Keys of spec {spec} are not served here.")
    if usage != (ENCRYPTS if spec == SYMMETRIC else MACS):
        raise invalid(f"KeyUsage {usage} does not go with KeySpec {spec}.")
    if call.get("Origin", "AWS_KMS") != "AWS_KMS":
        raise unsupported("Origin must be AWS_KMS here.")
    multi_region = bool(call.get("MultiRegion"))
    key_id = new_key_id(multi_region=multi_region)
    material = new_material(call.now, None, HMAC_BYTES.get(spec, 32))
    backing = Backing(key_id, spec, usage, multi_region, call.region, (material,))
    key = Key(key_id, call.region, desk.store.account, call.now, call.get("Description", ""))
    desk.store.put_backing(backing)
    desk.store.put_key(key, call.now)
    return {"KeyMetadata": _metadata(desk, Found(key, backing))}


def describe(desk: Desk, call: Call) -> dict[str, Any]:
    """DescribeKey."""
    return {"KeyMetadata": _metadata(desk, desk.key(call))}


def list_all(desk: Desk, call: Call) -> dict[str, Any]:
    """ListKeys, of the Region."""
    desk.allow(call, "*")
    keys = [key for (region, _), key in desk.store.keys.items() if region == call.region]
    return page(call, "Keys", [{"KeyId": key.id, "KeyArn": key.arn} for key in keys])


def enable(desk: Desk, call: Call) -> dict[str, Any]:
    """EnableKey."""
    found = desk.key(call).not_pending()
    desk.store.put_key(replace(found.key, enabled=True), call.now)
    return {}


def disable(desk: Desk, call: Call) -> dict[str, Any]:
    """DisableKey."""
    found = desk.key(call).not_pending()
    desk.store.put_key(replace(found.key, enabled=False), call.now)
    return {}


def schedule_deletion(desk: Desk, call: Call) -> dict[str, Any]:
    """ScheduleKeyDeletion; a primary key waits for its replicas to go first."""
    days = call.get("PendingWindowInDays", 30)
    if days not in _WINDOW_DAYS:
        raise invalid("PendingWindowInDays must be between 7 and 30.")
    found = desk.key(call).not_pending()
    waits = found.is_primary and len(desk.store.related(found.key.id)) > 1
    date = None if waits else call.now + days * SECONDS_A_DAY
    key = replace(found.key, enabled=False, window_days=days, deletion_at=date)
    desk.store.put_key(key, call.now)
    return {
        "KeyId": found.arn,
        **({} if date is None else {"DeletionDate": date}),
        "KeyState": key.state,
        "PendingWindowInDays": days,
    }


def cancel_deletion(desk: Desk, call: Call) -> dict[str, Any]:
    """CancelKeyDeletion; the key is disabled afterwards."""
    found = desk.key(call)
    if found.key.window_days is None:
        raise wrong_state(found.arn, "not pending deletion")
    desk.store.put_key(replace(found.key, window_days=None, deletion_at=None), call.now)
    return {"KeyId": found.arn}


def replicate(desk: Desk, call: Call) -> dict[str, Any]:
    """ReplicateKey: a related key in another Region, with the same id and material."""
    _refuse_policies(call)
    found = desk.key(call).enabled()
    region = call.parameters["ReplicaRegion"]
    if not (found.backing.multi_region and found.is_primary):
        raise unsupported(f"{found.arn} is not a multi-Region primary key.")
    if desk.store.keys.get((region, found.key.id)) is not None:
        message = f"Region {region} has a replica of this key, or is that of the primary key."
        raise Refusal("AlreadyExistsException", message)
    desk.allow(call, f"arn:aws:kms:{region}:{desk.store.account}:key/*", action="CreateKey")
    replica = Key(found.key.id, region, desk.store.account, call.now, call.get("Description", ""))
    desk.store.put_key(replica, call.now)
    return {"ReplicaKeyMetadata": _metadata(desk, Found(replica, found.backing))}


def _metadata(desk: Desk, found: Found) -> dict[str, Any]:
    key, backing = found.key, found.backing
    metadata: dict[str, Any] = {
        "AWSAccountId": key.account,
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": key.created,
        "Enabled": key.state == "Enabled",
        "Description": key.description,
        "KeyUsage": backing.usage,
        "KeyState": key.state,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": backing.spec,
        "KeySpec": backing.spec,
        "MultiRegion": backing.multi_region,
    }
    if backing.spec == SYMMETRIC:
        metadata["EncryptionAlgorithms"] = [SYMMETRIC]
        metadata["CurrentKeyMaterialId"] = found.newest.id
    else:
        metadata["MacAlgorithms"] = [backing.spec.replace("HMAC_", "HMAC_SHA_")]
    if backing.multi_region:
        metadata["MultiRegionConfiguration"] = _relatives(desk, found)
    if key.deletion_at is not None:
        metadata["DeletionDate"] = key.deletion_at
    elif key.window_days is not None:
        metadata["PendingDeletionWindowInDays"] = key.window_days
    return metadata


def _relatives(desk: Desk, found: Found) -> dict[str, Any]:
    places = [{"Arn": k.arn, "Region": k.region} for k in desk.store.related(found.key.id)]
    primary = found.backing.primary_region
    return {
        "MultiRegionKeyType": "PRIMARY" if found.is_primary else "REPLICA",
        "PrimaryKey": next((place for place in places if place["Region"] == primary), None),
        "ReplicaKeys": [place for place in places if place["Region"] != primary],
    }


def _refuse_policies(call: Call) -> None:
    if call.get("Policy") is not None:
        # To take one and not to apply it would let tests pass for the wrong reason.
        raise unsupported("Key policies are not evaluated here: give principals policies.")
