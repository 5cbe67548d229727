"""The operations of the KMS API that this server carries out, one module a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy_kmsenv.testing.calls import Call
from sqlalchemy_kmsenv.testing.desk import Desk
from sqlalchemy_kmsenv.testing.operations import aliases, data, grants, keys, macs, rotation

Operation = Callable[[Desk, Call], dict[str, Any]]
"""Takes checked parameters, answers the members of the response, raises ``Refusal``."""

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "CancelKeyDeletion": keys.cancel_deletion,
        "CreateAlias": aliases.create,
        "CreateGrant": grants.create,
        "CreateKey": keys.create,
        "Decrypt": data.decrypt,
        "DeleteAlias": aliases.delete,
        "DescribeKey": keys.describe,
        "DisableKey": keys.disable,
        "DisableKeyRotation": rotation.disable,
        "EnableKey": keys.enable,
        "EnableKeyRotation": rotation.enable,
        "Encrypt": data.encrypt,
        "GenerateDataKey": data.generate,
        "GenerateDataKeyWithoutPlaintext": data.generate_without_plaintext,
        "GenerateMac": macs.generate,
        "GetKeyRotationStatus": rotation.status,
        "ListAliases": aliases.list_all,
        "ListGrants": grants.list_all,
        "ListKeyRotations": rotation.list_all,
        "ListKeys": keys.list_all,
        "ReEncrypt": data.re_encrypt,
        "ReplicateKey": keys.replicate,
        "RetireGrant": grants.retire,
        "RevokeGrant": grants.revoke,
        "RotateKeyOnDemand": rotation.rotate,
        "ScheduleKeyDeletion": keys.schedule_deletion,
        "UpdateAlias": aliases.update,
        "VerifyMac": macs.verify,
    }
)
