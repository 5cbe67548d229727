"""An IAM role to assume, with credentials that renew themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)

from sqlalchemy_kmsenv.kms.aws_endpoint import Endpoint, client_at

if TYPE_CHECKING:
    from botocore.config import Config

_METHOD = "sqlalchemy-kmsenv-assume-role"


@dataclass(frozen=True, slots=True)
class Role:
    """What AssumeRole is asked for."""

    arn: str
    session_name: str
    external_id: str | None = None
    sts_endpoint_url: str | None = None

    def request(self) -> dict[str, str]:
        """The parameters of the call."""
        asked = {"RoleArn": self.arn, "RoleSessionName": self.session_name}
        return asked if self.external_id is None else {**asked, "ExternalId": self.external_id}


def session_of_role(
    role: Role,
    source: boto3.session.Session,
    *,
    region: str | None,
    config: Config,
    allow_http: bool,
) -> boto3.session.Session:
    """A session that acts as ``role``, which the credentials of ``source`` assume.

    No call is made before credentials are needed; they are asked for again some
    minutes before they expire. Time-outs and retries are those of ``config``.

    Credentials raise ``ConfigurationError`` where the environment or the profile
    names an endpoint that ``client_at`` refuses.
    """
    endpoint = Endpoint(
        url=role.sts_endpoint_url,
        name="the endpoint of STS",
        region=region,
        allow_http=allow_http,
    )

    def renew() -> dict[str, Any]:
        # A new client each time: the credentials of the source may have changed as well.
        sts = client_at(endpoint, "sts", source, config)
        answer: Any = sts.assume_role(**role.request())
        found = answer["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    own = botocore.session.Session()
    own.register_component("credential_provider", CredentialResolver([_RoleProvider(renew)]))
    return boto3.session.Session(botocore_session=own, region_name=region or source.region_name)


class _RoleProvider(CredentialProvider):
    METHOD = _METHOD

    def __init__(self, renew: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._renew = renew

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._renew, self.METHOD)
