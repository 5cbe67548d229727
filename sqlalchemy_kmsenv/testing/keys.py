"""What the server keeps of keys, aliases and grants: values that change as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

SYMMETRIC = "SYMMETRIC_DEFAULT"
ENCRYPTS = "ENCRYPT_DECRYPT"
MACS = "GENERATE_VERIFY_MAC"
HMAC_BYTES = {"HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64}
"""Length of the secret by key spec."""


@dataclass(frozen=True, slots=True)
class Material:
    """One version of a key's secret."""

    id: str
    """64 lower-case hexadecimal digits (``KeyMaterialId``)."""
    secret: bytes = field(repr=False)
    since: float
    """Seconds since the epoch, when it began to wrap."""
    rotation: str | None
    """``AUTOMATIC`` or ``ON_DEMAND``; None for the first one."""


def new_material(since: float, rotation: str | None, length: int = 32) -> Material:
    """A fresh secret."""
    return Material(os.urandom(32).hex(), os.urandom(length), since, rotation)


@dataclass(frozen=True, slots=True)
class Backing:
    """What related multi-Region keys have in common; any other key has one of its own."""

    key_id: str
    spec: str
    usage: str
    multi_region: bool
    primary_region: str
    materials: tuple[Material, ...]
    """Oldest first, never empty; the last one wraps."""
    rotation_days: int | None = None
    next_rotation: float | None = None
    on_demand_since: float | None = None
    """When an on-demand rotation began that is not done yet."""

    def material(self, material_id: str) -> Material | None:
        """The material of that id."""
        return next((m for m in self.materials if m.id == material_id), None)


@dataclass(frozen=True, slots=True)
class Key:
    """One KMS key of one Region."""

    id: str
    region: str
    account: str
    created: float
    description: str = ""
    enabled: bool = True
    window_days: int | None = None
    """Set while it is pending deletion."""
    deletion_at: float | None = None
    """None also while it waits for its replicas to go first."""

    @property
    def arn(self) -> str:
        """``arn:aws:kms:REGION:ACCOUNT:key/ID``."""
        return key_arn(self.region, self.account, self.id)

    @property
    def state(self) -> str:
        """``KeyState`` of the KMS API."""
        if self.window_days is not None:
            return "PendingReplicaDeletion" if self.deletion_at is None else "PendingDeletion"
        return "Enabled" if self.enabled else "Disabled"


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a key of the same Region."""

    name: str
    key_id: str
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations that a principal may do with one key, besides what its policies say."""

    id: str
    token: str
    region: str
    key_id: str
    grantee: str
    retiring: str | None
    operations: tuple[str, ...]
    context_equals: Mapping[str, str] | None
    context_subset: Mapping[str, str] | None
    name: str | None
    created: float

    def admits(self, operation: str, context: Mapping[str, str] | None) -> bool:
        """Whether it covers this operation; a constraint asks for a context that fits it.

        Names of pairs are compared without regard to case and values with it, as the
        API reference says of ``GrantConstraints``.
        """
        if operation not in self.operations:
            return False
        if context is None:
            return True
        given = {(name.lower(), value) for name, value in context.items()}
        if self.context_equals and given != _folded(self.context_equals):
            return False
        return not self.context_subset or _folded(self.context_subset) <= given


def new_key_id(*, multi_region: bool) -> str:
    """A random id in the form of its kind."""
    return f"mrk-{uuid4().hex}" if multi_region else str(uuid4())


def key_arn(region: str, account: str, key_id: str) -> str:
    """The ARN of a key."""
    return f"arn:aws:kms:{region}:{account}:key/{key_id}"


def alias_arn(region: str, account: str, name: str) -> str:
    """The ARN of an alias, whose name begins with ``alias/``."""
    return f"arn:aws:kms:{region}:{account}:{name}"


def _folded(pairs: Mapping[str, str]) -> set[tuple[str, str]]:
    return {(name.lower(), value) for name, value in pairs.items()}
