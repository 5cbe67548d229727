"""Do the clocks agree, and is the cache's policy one to sleep by?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, text

from sqlalchemy_kmsenv.access.checks import Check, check
from sqlalchemy_kmsenv.keyring import Keyring

CLOCK = "clock agrees with the database's"
STEADY = "keyring's clock goes forward"
CACHE = "cache policy sane"

ALLOWED_SECONDS = 60.0
"""AWS refuses requests that are five minutes off; a machine with NTP is off by less than one."""
LONGEST_AGE_SECONDS = 3600.0
"""So long a role whose permission is taken away can still read."""

_NOW = {
    "sqlite": "SELECT strftime('%s', 'now')",
    "postgresql": "SELECT extract(epoch from pg_catalog.clock_timestamp())",
    "mysql": "SELECT unix_timestamp()",
    "mariadb": "SELECT unix_timestamp()",
}


def clock_check(connection: Connection, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """Whether this machine and the database's have the same time; nothing for other databases."""
    query = _NOW.get(connection.dialect.name)
    if query is None:
        return
    apart = abs(now() - float(connection.scalar(text(query))))
    detail = "" if apart <= ALLOWED_SECONDS else f"{apart:,.0f} seconds apart"
    yield check("clock", CLOCK, passed=apart <= ALLOWED_SECONDS, detail=detail)


def policy_checks(subject: str, keyring: Keyring) -> Iterator[Check]:
    """How long a data key serves, and by which clock."""
    first = keyring.clock()
    yield check(subject, STEADY, passed=keyring.clock() >= first)
    cache = keyring.cache
    detail = (
        f"{cache.max_age_seconds:,g} s, {cache.max_messages:,} values, {cache.max_entries:,} data"
        " keys"
    )
    sane = cache.max_age_seconds <= LONGEST_AGE_SECONDS
    too_long = f"; a revoked role reads on for more than {LONGEST_AGE_SECONDS:,g} s"
    yield check(subject, CACHE, passed=sane, detail=detail + ("" if sane else too_long))
