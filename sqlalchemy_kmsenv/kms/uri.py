"""``kms_from_uri``: the KMS key that a URI names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms.protocol import Kms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "sqlalchemy_kmsenv.kms"

_EXAMPLES = (
    "local:///absolute/path/keys.json, aws-kms:///alias/NAME?region=REGION, "
    "or aws-kms:///arn:aws:kms:REGION:ACCOUNT:key/ID"
)
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(/?)")


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _listed(text: str) -> list[str]:
    return text.split(",")


AWS_OPTIONS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "region": str,
        "replica_regions": _listed,
        "role_arn": str,
        "external_id": str,
        "role_session_name": str,
        "endpoint_url": str,
        "sts_endpoint_url": str,
        "allow_http": _flag,
        "use_fips": _flag,
        "use_dualstack": _flag,
        "connect_timeout_seconds": float,
        "read_timeout_seconds": float,
        "max_attempts": int,
        "retry_mode": str,
        "pool_connections": int,
    }
)
"""What the URI of an AWS key may say: all options of ``AwsKms`` that are no objects and no
secrets, and how each is read."""


def kms_from_uri(uri: str, *, rewraps_from: Iterable[Kms] = ()) -> Kms:
    """The key service client for one KMS key, without any call to it.

    ``local:///absolute/path`` opens a ``LocalKms`` file;
    ``aws-kms:///KEY?region=...&role_arn=...`` takes any key id of ``AwsKms``, and its
    options of text, numbers (``5``), true or false, and Regions (``eu-west-1,us-east-1``).
    Another scheme is looked up as an entry point of that name in the group
    ``sqlalchemy_kmsenv.kms``: a callable that takes the URI and returns a ``Kms``.
    A percent sign begins an escape, in paths too. Of ``rewraps_from`` a ``LocalKms``
    takes those that are one, too: it has to read their files to re-wrap from them.

    Raises:
        ConfigurationError: the URI is malformed, carries credentials or an unknown
            option, or its scheme is unknown; or the key that it names is refused
            by ``LocalKms`` or ``AwsKms``. The message repeats no part of the URI
            that might be secret.
    """
    parts = _split(uri)
    if parts.scheme == "local":
        return _local(parts, uri, rewraps_from)
    if parts.scheme == "aws-kms":
        return _aws(parts, uri)
    return _plugged_in(parts.scheme, uri)


def _split(uri: str) -> SplitResult:
    start = _START.match(uri)
    if start is None:
        raise _refusal("it does not begin with a scheme and ://")
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        raise _refusal("it has blanks, control or non-ASCII characters; percent-encode them")
    parts = _parsed(uri)
    if parts is None:
        raise _refusal("its host part is malformed")
    if "@" in parts.netloc:
        raise _refusal(
            "it carries credentials, which get logged; let the service's client find them"
        )
    return parts


def _parsed(uri: str) -> SplitResult | None:
    # None, not a chained exception: that of urlsplit repeats the host part, password included.
    try:
        return urlsplit(uri)
    except ValueError:
        return None


def _local(parts: SplitResult, uri: str, rewraps_from: Iterable[Kms]) -> Kms:
    _options(parts, frozenset())
    path = "/" + _path(parts, uri)
    # Here, so that AwsKms can be used where POSIX locks do not exist.
    from sqlalchemy_kmsenv.kms.local import LocalKms  # noqa: PLC0415

    return LocalKms(path, rewraps_from=[k for k in rewraps_from if isinstance(k, LocalKms)])


def _aws(parts: SplitResult, uri: str) -> Kms:
    given = _options(parts, frozenset(AWS_OPTIONS))
    options = {name: _converted(name, text) for name, text in given.items()}
    key_id = _path(parts, uri)
    # Here, since boto3 takes longer to import than all the rest.
    from sqlalchemy_kmsenv.kms.aws import AwsKms  # noqa: PLC0415

    return AwsKms(key_id, **options)


def _converted(name: str, text: str) -> Any:
    try:
        return AWS_OPTIONS[name](text)
    except ValueError:
        pass
    # Here, since the cause would repeat the value, which may be a secret in the wrong place.
    raise _refusal(f"the option {name} is not written as it should be (5, 0.5, true, eu-west-1)")


def _path(parts: SplitResult, uri: str) -> str:
    """The path behind ``scheme:///``, unescaped, without its first slash."""
    start = _START.match(uri)
    if start is None or not start[2]:
        raise _refusal("it has a host part, or a relative path: three slashes follow the scheme")
    path = unquote(parts.path).removeprefix("/")
    if not path or "\0" in path:
        raise _refusal("it names no key")
    return path


def _options(parts: SplitResult, known: frozenset[str]) -> dict[str, str]:
    if parts.fragment:
        raise _refusal("it has a fragment (#...)")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    unknown = sorted(set(names) - known)
    if unknown:
        # Names only: the value may be a secret that does not belong here.
        taken = ", ".join(sorted(known)) or "none"
        raise _refusal(f"it has the unknown options {unknown!r}; known here: {taken}")
    if len(set(names)) != len(names) or not all(value for _, value in pairs):
        raise _refusal("an option is given twice, or is empty")
    return dict(pairs)


def _plugged_in(scheme: str, uri: str) -> Kms:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=scheme))
    if not found:
        others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
        schemes = ", ".join(sorted({"aws-kms", "local"} | others))
        raise _refusal(f"the scheme {scheme!r} is unknown; known here: {schemes}")
    if len(found) > 1:
        targets = ", ".join(point.value for point in found)
        raise _refusal(f"several packages provide {scheme!r} ({targets}); uninstall all but one")
    kms = _load(found[0])(uri)
    if not isinstance(kms, Kms):
        message = (
            f"the plug-in {found[0].value} for {scheme!r} returned {type(kms).__name__}, "
            "which is no Kms: correct or remove the package"
        )
        raise ConfigurationError(message)
    return kms


def _load(point: EntryPoint) -> Callable[[str], object]:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        message = f"the plug-in {point.value} cannot be loaded: reinstall or remove its package"
        raise ConfigurationError(message) from error
    if not callable(loaded):
        message = f"the plug-in {point.value} is not callable: correct or remove its package"
        raise ConfigurationError(message)
    factory: Callable[[str], object] = loaded
    return factory


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the KMS URI is refused: {reason}. It looks like {_EXAMPLES}")
