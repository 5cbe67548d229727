"""What ``AwsKms`` accepts, checked before any call."""

from __future__ import annotations

import math
import re
from ipaddress import ip_address
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

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]+")
# STS API reference, AssumeRole
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)

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


def checked_endpoint(
    endpoint_url: str | None, *, allow_http: bool, name: str = "endpoint_url"
) -> str | None:
    """``endpoint_url`` itself: an https URL without credentials, or None.

    http is taken on this machine alone (``localhost``, 127.0.0.1, ::1), unless
    ``allow_http``: plaintext data keys travel in the answers.

    Raises:
        ConfigurationError: it is none; the message does not repeat it.
    """
    if endpoint_url is None:
        return None
    if not _is_plain_url(endpoint_url):
        # Not repeated, since a password may be in it.
        message = (
            f"{name} is refused: it must look like https://HOST or http://HOST:PORT, "
            "without user and password, blanks and control characters"
        )
        raise ConfigurationError(message)
    if is_http(endpoint_url) and not (allow_http or _is_loopback(endpoint_url)):
        message = (
            f"{name} is refused: over http everybody on the way reads the data keys. Use https,"
            " or say allow_http=True where the way is known (a container on the same host)"
        )
        raise ConfigurationError(message)
    return endpoint_url


def is_http(url: str) -> bool:
    """Whether what is sent to ``url`` is not encrypted; schemes have no case."""
    return urlsplit(url).scheme == "http"


def checked_replica_regions(
    regions: Sequence[str], key_id: str, home: str | None, *, endpoint_url: str | None
) -> list[str]:
    """A copy of ``regions``, all different and none of them ``home``.

    Raises:
        ConfigurationError: not so, or the key cannot be a multi-Region one, or an
            endpoint that serves one Region is given.
    """
    names = [] if isinstance(regions, str) else list(regions)
    if not names and not regions:
        return names
    if not names or len({home, *names}) != len(names) + 1 or not all(map(_REGION.fullmatch, names)):
        message = (
            f"replica_regions={regions!r} is refused: give a list of Regions, each once and without"
            " that of the key itself"
        )
        raise ConfigurationError(message)
    if "mrk-" not in key_id and "alias/" not in key_id:
        message = f"{key_id} is no multi-Region key (mrk-...): it has no replica_regions"
        raise ConfigurationError(message)
    if endpoint_url is not None:
        check_serves_several_regions(endpoint_url)
    return names


def check_serves_several_regions(endpoint_url: str) -> None:
    """Refuse the endpoint of one Region, which is any that is not on this machine.

    Raises:
        ConfigurationError: the message does not repeat it.
    """
    if not _is_loopback(endpoint_url):
        message = (
            "endpoint_url and replica_regions together are refused, also where the environment or"
            " the profile names the endpoint: one endpoint serves one Region; leave it out, and"
            " give each VPC endpoint its private DNS name"
        )
        raise ConfigurationError(message)


def check_role(
    role_arn: str | None, external_id: str | None, session_name: str | None, sts_url: str | None
) -> None:
    """Refuse what AssumeRole would refuse, and what says nothing without a role.

    Raises:
        ConfigurationError: the message names the argument.
    """
    given = {"external_id": external_id, "role_session_name": session_name}
    if role_arn is None:
        without = [name for name, value in given.items() if value is not None]
        if without or sts_url is not None:
            names = ", ".join(without or ["sts_endpoint_url"])
            raise ConfigurationError(f"{names} is refused: it needs a role_arn to go with it")
        return
    if _ROLE_ARN.fullmatch(role_arn) is None:
        message = f"role_arn={role_arn!r} is refused: use arn:aws:iam::ACCOUNT:role/NAME"
        raise ConfigurationError(message)
    for name, pattern in (("external_id", _EXTERNAL_ID), ("role_session_name", _SESSION_NAME)):
        value = given[name]
        if value is not None and pattern.fullmatch(value) is None:
            raise ConfigurationError(f"{name} is refused: AssumeRole takes {pattern.pattern}")


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


def checked_count(name: str, count: int) -> int:
    """``count`` itself, one or more.

    Raises:
        ConfigurationError: it is less.
    """
    if count < 1:
        raise ConfigurationError(f"{name}={count!r} is refused: give 1 or more")
    return count


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
    # urlsplit drops some of these before it looks for the scheme, others read them as text.
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        return False
    has_host = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and has_host and port_is_number


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
