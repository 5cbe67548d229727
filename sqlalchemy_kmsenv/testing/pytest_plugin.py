"""The pytest plug-in: a KMS of its own for each test that asks for one.

A fixture of the same name in a ``conftest.py`` goes before these.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy_kmsenv.keyring import Keyring
    from sqlalchemy_kmsenv.testing.server import KmsServer, ServerKey

# What the fixtures need is imported in them: pytest loads this module in every run.


@pytest.fixture
def kms_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsServer]:
    """A KMS over HTTP on loopback, without keys; it is gone after the test."""
    from sqlalchemy_kmsenv.testing.server import KmsServer  # noqa: PLC0415

    # A proxy of the company does not lead to this machine.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, f"127.0.0.1,{os.environ.get(name, '')}".rstrip(","))
    with KmsServer() as server:
        yield server


@pytest.fixture
def kms_key(kms_server: KmsServer) -> ServerKey:
    """A symmetric key of ``kms_server``, under the alias ``alias/kmsenv-test``."""
    return kms_server.create_key(alias="alias/kmsenv-test")


@pytest.fixture
def kms_environment(kms_server: KmsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead every AWS client of this process to ``kms_server``, as its root principal."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    # One that was made before keeps the credentials that it found then.
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    for name, value in kms_server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def keyring(kms_server: KmsServer, kms_key: ServerKey) -> Keyring:
    """A keyring on ``kms_key``, through real boto3 as the root principal."""
    from sqlalchemy_kmsenv.keyring import Keyring  # noqa: PLC0415
    from sqlalchemy_kmsenv.testing.clients import aws_kms  # noqa: PLC0415

    return Keyring(aws_kms(kms_server, kms_key.arn))
