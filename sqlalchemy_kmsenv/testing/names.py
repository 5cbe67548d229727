"""The two spellings of an operation: the API's and boto3's."""

from __future__ import annotations

from functools import cache

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing import service_model
from sqlalchemy_kmsenv.testing.operations import OPERATIONS


def method_name(operation: str) -> str:
    """``generate_data_key`` for ``GenerateDataKey``."""
    return service_model.method_name(operation)


def api_name(name: str) -> str:
    """``GenerateDataKey`` for either spelling.

    Raises:
        ConfigurationError: there is no such operation.
    """
    found = _spellings().get(name)
    if found is None:
        message = f"{name!r} is no operation of KMS: write GenerateDataKey or generate_data_key"
        raise ConfigurationError(message)
    return found


@cache
def _spellings() -> dict[str, str]:
    # Those of this server too: an older botocore does not know them all.
    names = service_model.operations() | OPERATIONS.keys()
    return {spelling: name for name in names for spelling in (name, method_name(name))}
