"""The store: every key, alias and grant, and what time alone does to them."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from sqlalchemy_kmsenv.testing.keys import Alias, Backing, Grant, Key, new_material

_Id = TypeVar("_Id", bound=Hashable)
_Value = TypeVar("_Value")

SECONDS_A_DAY = 86_400
_KEPT_VERSIONS = 16


class Versions(Generic[_Id, _Value]):
    """Values that can also be read as they were a while ago; None stands for absent."""

    def __init__(self) -> None:
        self._histories: dict[_Id, tuple[tuple[float, _Value | None], ...]] = {}

    def get(self, identity: _Id) -> _Value | None:
        """The value now."""
        history = self._histories.get(identity)
        return history[-1][1] if history else None

    def seen_at(self, identity: _Id, moment: float) -> _Value | None:
        """The value as of ``moment``: what a part of the service may still believe."""
        newest_first = reversed(self._histories.get(identity, ()))
        return next((value for since, value in newest_first if since <= moment), None)

    def put(self, identity: _Id, value: _Value | None, now: float) -> None:
        """Replace the value from ``now`` on."""
        history = self._histories.get(identity, ())
        self._histories[identity] = (*history, (now, value))[-_KEPT_VERSIONS:]

    def values(self) -> Iterator[_Value]:
        """Every value that is there."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[_Id, _Value]]:
        """Every value that is there and its identity, in the order in which they came."""
        for identity, history in tuple(self._histories.items()):
            value = history[-1][1]
            if value is not None:
                yield identity, value


class Store:
    """All state of a server. Whoever reads or writes it holds ``lock``."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.lock = threading.RLock()
        self.keys: Versions[tuple[str, str], Key] = Versions()
        self.backings: dict[str, Backing] = {}
        self.aliases: Versions[tuple[str, str], Alias] = Versions()
        self.grants: dict[str, Grant] = {}
        self.changes = 0
        """Grows with every change, so that it is seen when to write to disk."""

    def put_key(self, key: Key, now: float) -> None:
        """Add or replace a key."""
        self.keys.put((key.region, key.id), key, now)
        self.changes += 1

    def put_backing(self, backing: Backing) -> None:
        """Add or replace what related keys share."""
        self.backings[backing.key_id] = backing
        self.changes += 1

    def put_alias(self, region: str, name: str, alias: Alias | None, now: float) -> None:
        """Add, replace or, with None, remove an alias."""
        self.aliases.put((region, name), alias, now)
        self.changes += 1

    def put_grant(self, grant: Grant) -> None:
        """Add a grant."""
        self.grants[grant.id] = grant
        self.changes += 1

    def drop_grant(self, grant_id: str) -> None:
        """Remove a grant."""
        del self.grants[grant_id]
        self.changes += 1

    def related(self, key_id: str) -> list[Key]:
        """The key of this id in each Region that has it."""
        return [key for key in self.keys.values() if key.id == key_id]

    def aliases_of(self, key: Key) -> list[Alias]:
        """The aliases of one key."""
        return [
            alias
            for (region, _), alias in self.aliases.items()
            if (region, alias.key_id) == _place(key)
        ]

    def settle(self, now: float, rotation_seconds: float) -> None:
        """Do what is due: finish rotations, begin scheduled ones, delete keys."""
        for backing in tuple(self.backings.values()):
            settled = self._rotated(backing, now, rotation_seconds)
            if settled is not backing:
                self.put_backing(settled)
        for key in tuple(self.keys.values()):
            if key.deletion_at is not None and key.deletion_at <= now:
                self._delete(key, now)
        for key in tuple(self.keys.values()):
            self._begin_to_wait(key, now)

    def _rotated(self, backing: Backing, now: float, rotation_seconds: float) -> Backing:
        began = backing.on_demand_since
        if began is not None and began + rotation_seconds <= now:
            material = new_material(began + rotation_seconds, "ON_DEMAND")
            backing = replace(
                backing, materials=(*backing.materials, material), on_demand_since=None
            )
        primary = self.keys.get((backing.primary_region, backing.key_id))
        if primary is None or primary.state != "Enabled":
            return backing
        while backing.next_rotation is not None and backing.next_rotation <= now:
            material = new_material(backing.next_rotation, "AUTOMATIC")
            following = backing.next_rotation + (backing.rotation_days or 0) * SECONDS_A_DAY
            backing = replace(
                backing, materials=(*backing.materials, material), next_rotation=following
            )
        return backing

    def _begin_to_wait(self, key: Key, now: float) -> None:
        waits = key.window_days is not None and key.deletion_at is None
        if waits and len(self.related(key.id)) == 1:
            # The last replica is gone: only now does the waiting period begin.
            date = now + (key.window_days or 0) * SECONDS_A_DAY
            self.put_key(replace(key, deletion_at=date), now)

    def _delete(self, key: Key, now: float) -> None:
        for alias in self.aliases_of(key):
            self.put_alias(key.region, alias.name, None, now)
        for grant in [g for g in self.grants.values() if (g.region, g.key_id) == _place(key)]:
            self.drop_grant(grant.id)
        self.keys.put(_place(key), None, now)
        self.changes += 1
        if not self.related(key.id):
            del self.backings[key.id]


def _place(key: Key) -> tuple[str, str]:
    return key.region, key.id
