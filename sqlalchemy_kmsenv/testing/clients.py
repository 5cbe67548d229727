"""Real clients of a ``KmsServer``: what an application uses, led to the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session

from sqlalchemy_kmsenv.kms.aws import AwsKms
from sqlalchemy_kmsenv.testing.service_model import loader

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

    from sqlalchemy_kmsenv.testing.principals import Principal
    from sqlalchemy_kmsenv.testing.server import KmsServer

_NO_FILE = (None, None, os.devnull, None)
_ALONE = {
    "profile": (None, None, None, None),
    "config_file": _NO_FILE,
    "credentials_file": _NO_FILE,
}
"""Settings of botocore: neither environment variable nor file, but a default."""


def session(
    server: KmsServer, principal: Principal | None = None, *, region: str | None = None
) -> boto3.session.Session:
    """A boto3 session with the access key of ``principal``, the root principal by default.

    It knows nothing of the profiles and files of whoever runs the tests.
    """
    alone = botocore.session.Session(session_vars=_ALONE)
    alone.register_component("data_loader", loader())
    credentials: dict[str, Any] = {**(principal or server.root).credentials()}
    return boto3.session.Session(
        botocore_session=alone, region_name=region or server.region, **credentials
    )


def client(
    server: KmsServer,
    principal: Principal | None = None,
    *,
    region: str | None = None,
    **options: Any,
) -> KMSClient:
    """A boto3 client for KMS; ``options`` are further arguments of ``Session.client``."""
    made = session(server, principal, region=region)
    return made.client("kms", endpoint_url=server.url, **options)


def aws_kms(
    server: KmsServer, key_id: str, principal: Principal | None = None, **options: Any
) -> AwsKms:
    """An ``AwsKms`` for a key of the server; ``options`` are further arguments of it.

    Raises:
        ConfigurationError: an argument cannot be right.
    """
    made = session(server, principal)
    return AwsKms(key_id, endpoint_url=server.url, session=made, **options)
