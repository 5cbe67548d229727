"""Clients of boto3 that talk to an endpoint which may be told secrets, and to it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config

from sqlalchemy_kmsenv.kms.aws_arguments import (
    check_serves_several_regions,
    checked_endpoint,
    is_http,
)

if TYPE_CHECKING:
    import boto3

# Unknown to the stubs.
_UNCONFIGURED: Final[dict[str, Any]] = {"ignore_configured_endpoint_urls": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a client is to send its requests; ``name`` is for messages."""

    url: str | None
    name: str
    region: str | None
    allow_http: bool
    several_regions: bool = False


def client_at(
    endpoint: Endpoint, service: str, session: boto3.session.Session, config: Config
) -> Any:
    """A client of ``service``; over http it uses no proxy.

    Raises:
        ConfigurationError: the environment or the profile names an endpoint that
            ``checked_endpoint`` refuses, or one for a key of several Regions.
    """
    client = _client(endpoint, service, session, config)
    # Only now is it known: the environment and the profile may name an endpoint as well.
    url = client.meta.endpoint_url
    checked_endpoint(url, allow_http=endpoint.allow_http, name=endpoint.name)
    if endpoint.several_regions:
        own = config.merge(Config(**_UNCONFIGURED))
        if url != _client(endpoint, service, session, own).meta.endpoint_url:
            check_serves_several_regions(url)
    if not is_http(url):
        return client
    # HTTP_PROXY would read what was to stay on this machine. An empty mapping is botocore's
    # word for none; None would mean those of the environment.
    return _client(endpoint, service, session, config.merge(Config(proxies={})))


def _client(
    endpoint: Endpoint, service: str, session: boto3.session.Session, config: Config
) -> Any:
    # The stubs know each service as a literal only.
    untyped: Any = session
    return untyped.client(
        service, region_name=endpoint.region, endpoint_url=endpoint.url, config=config
    )
