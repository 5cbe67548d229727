"""Which key a ``KeyId`` names: an id, a key ARN, an alias or an alias ARN."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy_kmsenv.testing.keys import Backing, Key, Material, alias_arn, key_arn
from sqlalchemy_kmsenv.testing.refusals import Refusal, not_found, wrong_state
from sqlalchemy_kmsenv.testing.store import Store

_ARN = re.compile(r"arn:aws:kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):(?P<name>.+)")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Lag:
    """For how many seconds a change of each kind may not be seen yet."""

    aliases: float = 0.0
    keys: float = 0.0
    grants: float = 0.0


@dataclass(frozen=True, slots=True)
class Named:
    """What a request calls a key, before it is known whether there is one."""

    region: str
    account: str
    id: str
    alias: str | None = None

    @property
    def arn(self) -> str:
        """The ARN of the key, for policies; never that of an alias."""
        return key_arn(self.region, self.account, self.id)


@dataclass(frozen=True, slots=True)
class Found:
    """A key that is there, and the alias that it was asked by."""

    key: Key
    backing: Backing
    alias: str | None = None

    @property
    def arn(self) -> str:
        """The ARN of the key."""
        return self.key.arn

    @property
    def newest(self) -> Material:
        """The material that wraps."""
        return self.backing.materials[-1]

    @property
    def is_primary(self) -> bool:
        """Whether it is no replica."""
        return self.backing.primary_region == self.key.region

    def enabled(self) -> Found:
        """The key itself, if it may be used.

        Raises:
            Refusal: ``DisabledException`` or ``KMSInvalidStateException``.
        """
        self.not_pending()
        if not self.key.enabled:
            raise Refusal("DisabledException", f"{self.arn} is disabled.")
        return self

    def not_pending(self) -> Found:
        """The key itself, if it is not pending deletion.

        Raises:
            Refusal: ``KMSInvalidStateException``.
        """
        if self.key.window_days is not None:
            words = {"PendingDeletion": "pending deletion"}
            raise wrong_state(self.arn, words.get(self.key.state, "pending replica deletion"))
        return self

    def usable_for(self, usage: str) -> Found:
        """The key itself, if it was made for this usage and is enabled.

        Raises:
            Refusal: ``InvalidKeyUsageException``, or what ``enabled`` raises.
        """
        if self.backing.usage != usage:
            message = f"{self.arn} key usage is {self.backing.usage}, which is not valid here."
            raise Refusal("InvalidKeyUsageException", message)
        return self.enabled()


def resolve(store: Store, region: str, key_id: str, *, now: float, lag: Lag) -> Named:
    """What ``key_id`` names in this Region.

    Raises:
        Refusal: ``NotFoundException`` for an alias that is not there and for a text
            that cannot be a key id; ``InvalidArnException`` for an ARN of another service.
    """
    name, account = key_id, store.account
    if key_id.startswith("arn:"):
        arn = _ARN.fullmatch(key_id)
        if arn is None:
            raise Refusal("InvalidArnException", "The ARN is not one of a KMS key or alias.")
        if arn["region"] != region:
            raise not_found(f"Invalid arn {arn['region']}")
        name, account = arn["name"].removeprefix("key/"), arn["account"]
        if not arn["name"].startswith(("key/", "alias/")):
            raise Refusal("InvalidArnException", "The ARN is not one of a KMS key or alias.")
    if not name.startswith("alias/"):
        if not _ID.fullmatch(name):
            raise not_found("Invalid keyId.")
        return Named(region, account, name)
    alias = store.aliases.seen_at((region, name), now - lag.aliases)
    if alias is None or account != store.account:
        raise not_found(f"Alias {alias_arn(region, account, name)} is not found.")
    return Named(region, account, alias.key_id, name)


def find(store: Store, named: Named, *, now: float, lag: Lag) -> Found:
    """The key of that name.

    Raises:
        Refusal: ``NotFoundException``.
    """
    key = store.keys.seen_at((named.region, named.id), now - lag.keys)
    backing = store.backings.get(named.id)
    if key is None or backing is None or named.account != store.account:
        raise not_found(f"Key '{named.arn}' does not exist")
    return Found(key, backing, named.alias)
