"""Message authentication codes under HMAC keys."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.keys import MACS
from sqlalchemy_kmsenv.testing.refusals import Refusal

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.calls import Call
    from sqlalchemy_kmsenv.testing.desk import Desk


def generate(desk: Desk, call: Call) -> dict[str, Any]:
    """GenerateMac."""
    arn, mac = _mac(desk, call)
    desk.stop_if_dry(call)
    return {"Mac": mac, "MacAlgorithm": call.parameters["MacAlgorithm"], "KeyId": arn}


def verify(desk: Desk, call: Call) -> dict[str, Any]:
    """VerifyMac: a wrong code is an error, never a false."""
    arn, mac = _mac(desk, call)
    if not hmac.compare_digest(mac, call.parameters["Mac"]):
        raise Refusal("KMSInvalidMacException", "The MAC is not that of this message and key.")
    desk.stop_if_dry(call)
    return {"KeyId": arn, "MacValid": True, "MacAlgorithm": call.parameters["MacAlgorithm"]}


def _mac(desk: Desk, call: Call) -> tuple[str, bytes]:
    algorithm: str = call.parameters["MacAlgorithm"]
    found = desk.key(call, facts={"kms:macalgorithm": (algorithm,)}).usable_for(MACS)
    if algorithm != found.backing.spec.replace("HMAC_", "HMAC_SHA_"):
        message = f"{algorithm} is not valid for a key of spec {found.backing.spec}."
        raise Refusal("InvalidKeyUsageException", message)
    digest = f"sha{algorithm.removeprefix('HMAC_SHA_')}"
    return found.arn, hmac.digest(found.newest.secret, call.parameters["Message"], digest)
