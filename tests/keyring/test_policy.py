"""What a cache policy allows."""

import dataclasses
import math

import pytest

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import CachePolicy


def test_the_strict_policy_is_30_seconds_or_1000_messages():
    """Auditors are told this number."""
    policy = CachePolicy.strict()
    assert (policy.max_age_seconds, policy.max_messages) == (30, 1_000)
    assert policy.max_bytes == CachePolicy().max_bytes
    assert policy.max_entries == CachePolicy().max_entries


def test_the_default_policy_is_within_its_own_ceilings():
    """Random nonces allow 2^32 messages; the default stays far below."""
    policy = CachePolicy()
    assert policy.max_age_seconds == 300
    assert policy.max_messages <= 2**32 // 2**8
    assert policy.max_bytes < 2**36


@pytest.mark.parametrize("name", ["max_age_seconds", "max_messages", "max_bytes", "max_entries"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_limit_that_is_not_positive_is_refused(name, value):
    """Zero would mean a KMS call for each value, or none at all."""
    with pytest.raises(ConfigurationError, match=f"CachePolicy.{name}="):
        CachePolicy(**{name: value})


@pytest.mark.parametrize(("name", "ceiling"), [("max_messages", 2**32), ("max_bytes", 2**36)])
def test_a_limit_above_what_aes_gcm_allows_is_refused(name, ceiling):
    """NIST SP 800-38D, section 8.3, and the birthday bound of its blocks."""
    assert getattr(CachePolicy(**{name: ceiling}), name) == ceiling
    with pytest.raises(ConfigurationError, match="at most"):
        CachePolicy(**{name: ceiling + 1})


def test_a_policy_cannot_be_changed():
    """Data keys in use were made under it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        CachePolicy().max_messages = 1  # type: ignore[misc]
