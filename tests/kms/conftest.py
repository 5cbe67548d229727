"""A KMS that answers what the test says, and no account of anybody."""

import os
from collections.abc import Iterator

import pytest

from tests.kms.aws_stub import KmsStub, running_stub


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path) -> None:
    """Keep the account of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def stub() -> Iterator[KmsStub]:
    """A KMS that answers what the test says."""
    with running_stub() as stub:
        yield stub
