"""Rotation: by schedule, on demand, and what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.keys import SYMMETRIC
from sqlalchemy_kmsenv.testing.operations.pages import page
from sqlalchemy_kmsenv.testing.refusals import Refusal, unsupported
from sqlalchemy_kmsenv.testing.store import SECONDS_A_DAY

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk
    from sqlalchemy_kmsenv.testing.keys import Material
    from sqlalchemy_kmsenv.testing.lookup import Found

ON_DEMAND_LIMIT = 25
"""On-demand rotations of one key (RotateKeyOnDemand in the KMS API reference)."""

_USUAL_DAYS = 365


def enable(desk: Desk, call: Call) -> dict[str, Any]:
    """EnableKeyRotation; a year unless it is told otherwise."""
    found = _rotated_here(_symmetric(desk.key(call).enabled()))
    days = call.get("RotationPeriodInDays", _USUAL_DAYS)
    following = call.now + days * SECONDS_A_DAY
    desk.store.put_backing(replace(found.backing, rotation_days=days, next_rotation=following))
    return {}


def disable(desk: Desk, call: Call) -> dict[str, Any]:
    """DisableKeyRotation."""
    found = _rotated_here(_symmetric(desk.key(call).enabled()))
    desk.store.put_backing(replace(found.backing, rotation_days=None, next_rotation=None))
    return {}


def status(desk: Desk, call: Call) -> dict[str, Any]:
    """GetKeyRotationStatus; false while the key is pending deletion."""
    found = desk.key(call)
    backing = _symmetric(found).backing
    on = backing.rotation_days is not None and found.key.window_days is None
    answer: dict[str, Any] = {"KeyRotationEnabled": on, "KeyId": found.arn}
    if on:
        answer["RotationPeriodInDays"] = backing.rotation_days
        answer["NextRotationDate"] = backing.next_rotation
    if backing.on_demand_since is not None:
        answer["OnDemandRotationStartDate"] = backing.on_demand_since
    return answer


def rotate(desk: Desk, call: Call) -> dict[str, Any]:
    """RotateKeyOnDemand: begun here, and done as soon as ``rotation_seconds`` have gone by."""
    found = _rotated_here(_symmetric(desk.key(call).enabled()))
    backing = found.backing
    if backing.on_demand_since is not None:
        raise Refusal("ConflictException", f"A rotation of {found.arn} is in progress.")
    if sum(m.rotation == "ON_DEMAND" for m in backing.materials) >= ON_DEMAND_LIMIT:
        message = f"{found.arn} was rotated on demand {ON_DEMAND_LIMIT} times, the most there are."
        raise Refusal("LimitExceededException", message)
    desk.store.put_backing(replace(backing, on_demand_since=call.now))
    desk.store.settle(call.now, desk.rotation_seconds)
    return {"KeyId": found.arn}


def list_all(desk: Desk, call: Call) -> dict[str, Any]:
    """ListKeyRotations: those that are done, and with ALL_KEY_MATERIAL the first material too."""
    found = _symmetric(desk.key(call))
    everything = call.get("IncludeKeyMaterial") == "ALL_KEY_MATERIAL"
    rotations = [
        _entry(found, material, named=everything)
        for material in found.backing.materials
        if everything or material.rotation is not None
    ]
    return page(call, "Rotations", rotations)


def _entry(found: Found, material: Material, *, named: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"KeyId": found.arn}
    if material.rotation is not None:
        entry |= {"RotationDate": material.since, "RotationType": material.rotation}
    if named:
        current = material.id == found.newest.id
        entry |= {
            "KeyMaterialId": material.id,
            "KeyMaterialState": "CURRENT" if current else "NON_CURRENT",
        }
    return entry


def _symmetric(found: Found) -> Found:
    if found.backing.spec != SYMMETRIC:
        raise unsupported(f"{found.arn} is not a symmetric encryption key.")
    return found


def _rotated_here(found: Found) -> Found:
    if not found.is_primary:
        raise unsupported(f"{found.arn} is a replica: rotate its primary key.")
    return found
