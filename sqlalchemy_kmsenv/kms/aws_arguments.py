"""What ``AwsKms`` accepts, checked before any call."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sqlalchemy_kmsenv.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

RetryMode = Literal["standard", "adaptive"]

_KEY = r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})"
_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_ARN_START = r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:"

_NAME = re.compile(rf"{_KEY}|{_ALIAS}")
_ARN = re.compile(rf"{_ARN_START}(?:key/{_KEY}|{_ALIAS})")
_KEY_ARN = re.compile(rf"{_ARN_START}key/{_KEY}")

_MAX_GRANT_TOKENS = 10  # GrantTokens in the KMS API model


def checked_key_id(key_id: str) -> str:
    """``key_id`` itself: a key ARN, an alias ARN, ``alias/...``, a UUID or ``mrk-...``.

    Raises:
        ConfigurationError: it is none of these.
    """
    if not (_NAME.fullmatch(key_id) or _ARN.fullmatch(key_id)):
        message = (
            f"{key_id!r} names no AWS KMS key: use a key ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), "
            "an alias ARN, alias/NAME, or a key id (a lower-case UUID, or mrk-...)"
        )
        raise ConfigurationError(message)
    return key_id


def is_key_arn(key_id: str) -> bool:
    """Whether ``key_id`` is the ARN of a key, which no alias can redirect."""
    return _KEY_ARN.fullmatch(key_id) is not None


def may_be_arn_of(arn: str, key_id: str) -> bool:
    """Whether ``arn``, which the service answered, can be the key that ``key_id`` names."""
    if not is_key_arn(arn):
        return False
    # What an alias names is for the service to say; every other name is in the ARN.
    return "alias/" in key_id or arn == key_id or arn.endswith(f":key/{key_id}")


def region_for(key_id: str, region: str | None) -> str | None:
    """The Region to call: that of an ARN, else ``region``.

    Raises:
        ConfigurationError: ``key_id`` is an ARN of another Region than ``region``.
    """
    arn = _ARN.fullmatch(key_id)
    if arn is None:
        return region
    if region not in {None, arn["region"]}:
        message = f"{key_id} is not in Region {region!r}: leave the Region out, or correct it"
        raise ConfigurationError(message)
    return arn["region"]


def checked_endpoint(endpoint_url: str | None) -> str | None:
    """``endpoint_url`` itself: an http or https URL without credentials, or None.

    Raises:
        ConfigurationError: it is none; the message does not repeat it.
    """
    if endpoint_url is None or _is_plain_url(endpoint_url):
        return endpoint_url
    # Not repeated, since a password may be in it.
    message = (
        "endpoint_url is refused: it must look like https://HOST or http://HOST:PORT, "
        "without user and password"
    )
    raise ConfigurationError(message)


def checked_grant_tokens(tokens: Sequence[str]) -> list[str]:
    """A copy of ``tokens``, at most ten.

    Raises:
        ConfigurationError: too many, or a single text instead of a sequence of them.
    """
    if isinstance(tokens, str) or len(tokens) > _MAX_GRANT_TOKENS:
        message = f"grant_tokens is refused: give a sequence of at most {_MAX_GRANT_TOKENS} tokens"
        raise ConfigurationError(message)
    return list(tokens)


def checked_seconds(name: str, seconds: float) -> float:
    """``seconds`` itself, finite and above zero.

    Raises:
        ConfigurationError: it is not.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        message = f"{name}={seconds!r} is refused: a call must be allowed some time, and must end"
        raise ConfigurationError(message)
    return seconds


def checked_attempts(attempts: int) -> int:
    """``attempts`` itself, one or more.

    Raises:
        ConfigurationError: it is less.
    """
    if attempts < 1:
        message = (
            f"max_attempts={attempts!r} is refused: it counts the first try, so give 1 or more"
        )
        raise ConfigurationError(message)
    return attempts


def checked_retry_mode(mode: str) -> RetryMode:
    """``mode`` itself: ``"standard"`` or ``"adaptive"``.

    Raises:
        ConfigurationError: it is neither.
    """
    if mode == "standard":
        return "standard"
    if mode == "adaptive":
        return "adaptive"
    message = f"retry_mode={mode!r} is refused: use 'standard' or 'adaptive'"
    raise ConfigurationError(message)


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        return False
    has_host = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and has_host and port_is_number
