"""The key services that are compared, each behind the same few methods."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import botocore.config
from moto.server import ThreadedMotoServer

from sqlalchemy_kmsenv.kms import AwsKms, InspectableKms, LocalKms
from sqlalchemy_kmsenv.testing import KmsServer

REGION = "eu-central-1"
AWS_KEY = os.environ.get("KMSENV_TEST_AWS_KEY", "")
LOCALSTACK_URL = os.environ.get("KMSENV_TEST_LOCALSTACK_URL", "")


class Key(Protocol):
    """A key of a subject, and what an operator does with it."""

    @property
    def kms(self) -> InspectableKms: ...
    @property
    def arn(self) -> str: ...
    def rotate(self) -> object: ...
    def disable(self) -> object: ...
    def enable(self) -> object: ...


@dataclass(frozen=True)
class LocalKey:
    """A ``LocalKms`` file."""

    kms: LocalKms

    @property
    def arn(self) -> str:
        return self.kms.resolve()

    def rotate(self) -> object:
        return self.kms.rotate()

    def disable(self) -> None:
        self.kms.disable()

    def enable(self) -> None:
        self.kms.enable()


@dataclass(frozen=True)
class ApiKey:
    """A key behind the KMS API."""

    client: Any
    arn: str
    kms: AwsKms

    @property
    def id(self) -> str:
        """Not every emulator takes an ARN to switch a key."""
        return self.arn.rpartition("/")[2]

    def rotate(self) -> object:
        return self.client.rotate_key_on_demand(KeyId=self.id)

    def disable(self) -> object:
        return self.client.disable_key(KeyId=self.id)

    def enable(self) -> object:
        return self.client.enable_key(KeyId=self.id)


class Subject(Protocol):
    """A key service."""

    def key(self) -> Key:
        """A new key; on AWS the one key that there is."""
        ...


class Local:
    """Keys in files."""

    client = None

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0

    def key(self) -> LocalKey:
        self._made += 1
        return LocalKey(LocalKms.create(self._directory / f"{self._made}.json"))


class Api:
    """Whatever speaks the KMS API."""

    def __init__(
        self, url: str | None, session: boto3.session.Session, only_key: str | None = None
    ) -> None:
        self.session = session
        self.url = url
        self.client = self.connect()
        self._only_key = only_key

    def connect(self, **changes: Any) -> Any:
        """A client that tries once; ``changes`` are arguments of ``Session.client``."""
        # Emulators differ in what they check: nothing is to be refused on this side.
        config = botocore.config.Config(
            retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=20
        )
        return self.session.client("kms", endpoint_url=self.url, config=config, **changes)

    def key(self) -> ApiKey:
        arn = self._only_key or self.client.create_key()["KeyMetadata"]["Arn"]
        kms = AwsKms(arn, endpoint_url=self.url, session=self.session, max_attempts=1)
        return ApiKey(self.client, arn, kms)


def fixed_session(access_key_id: str, secret: str) -> boto3.session.Session:
    """A session for a server on this machine."""
    return boto3.session.Session(access_key_id, secret, region_name=REGION)


@contextmanager
def local() -> Iterator[Local]:
    """``LocalKms``."""
    with tempfile.TemporaryDirectory() as directory:
        yield Local(Path(directory))


@contextmanager
def server() -> Iterator[Api]:
    """``sqlalchemy_kmsenv.testing``."""
    with KmsServer(region=REGION) as running:
        credentials = running.root.credentials()
        yield Api(running.url, fixed_session(*credentials.values()))


@contextmanager
def moto() -> Iterator[Api]:
    """moto, over HTTP like the others."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    log = logging.getLogger("werkzeug")
    level, log.level = log.level, logging.CRITICAL
    # Its tracebacks of what it does not do are no news here: the table has them as 500.
    yield Api(f"http://{host}:{port}", fixed_session("testing", "testing"))
    log.setLevel(level)
    running.stop()


@contextmanager
def localstack() -> Iterator[Api]:
    """LocalStack, started by ``make contract-localstack``."""
    yield Api(LOCALSTACK_URL, fixed_session("test", "test"))


@contextmanager
def aws() -> Iterator[Api]:
    """AWS itself, with the one key that ``KMSENV_TEST_AWS_KEY`` names by its ARN."""
    region = AWS_KEY.split(":")[3]
    yield Api(None, boto3.session.Session(region_name=region), AWS_KEY)


SUBJECTS: Mapping[str, Callable[[], Any]] = {
    "LocalKms": local,
    "sqlalchemy_kmsenv.testing": server,
    "moto": moto,
    "LocalStack": localstack,
    "AWS": aws,
}
ABSENT = {
    "LocalStack": "" if LOCALSTACK_URL else "run make contract-localstack",
    "AWS": "" if AWS_KEY else "KMSENV_TEST_AWS_KEY names no key",
}
"""Why a subject cannot be run here; empty or missing where it can."""
