"""Who calls: a name, an access key, and what its policies allow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy_kmsenv.testing.policies import Policy, PolicyDocument, parse_policy

ROOT = "root"
"""The principal that every server has, and that may do everything."""

_EVERYTHING: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"},
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller of the server; the access key in a request's signature names it.

    Signatures are not verified, so the secret protects nothing: it exists because
    clients want one to sign with.
    """

    name: str
    arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    policy: Policy = field(repr=False)
    documents: tuple[str, ...] = field(repr=False)
    """The policies as JSON."""

    def credentials(self) -> dict[str, str]:
        """Keyword arguments of ``boto3.session.Session`` and ``boto3.client``."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
        }

    def environment(self) -> dict[str, str]:
        """The same as environment variables, for other programs."""
        return {name.upper(): value for name, value in self.credentials().items()}


def make_principal(name: str, account: str, *documents: PolicyDocument) -> Principal:
    """A principal whose access key follows from its name, so that it is the same every time.

    Raises:
        ConfigurationError: a policy is refused.
    """
    kept = tuple(d if isinstance(d, str) else json.dumps(d, default=list) for d in documents)
    digest = hashlib.sha256(name.encode()).hexdigest().upper()
    return Principal(
        name,
        f"arn:aws:iam::{account}:" + (ROOT if name == ROOT else f"user/{name}"),
        f"KMSENV{digest[:14]}",
        f"kmsenv-testing-{digest[14:40]}",
        parse_policy(*documents),
        kept,
    )


def root_principal(account: str) -> Principal:
    """The principal that may do everything."""
    return make_principal(ROOT, account, _EVERYTHING)
