"""A KMS for tests: over HTTP on loopback, faithful, with policies, faults and a count."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.testing.clients import aws_kms, client, session
    from sqlalchemy_kmsenv.testing.journal import Event
    from sqlalchemy_kmsenv.testing.principals import Principal
    from sqlalchemy_kmsenv.testing.refusals import Refusal
    from sqlalchemy_kmsenv.testing.server import KmsServer, ServerKey
    from sqlalchemy_kmsenv.testing.weather import Fault, Weather

__all__ = [
    "Event",
    "Fault",
    "KmsServer",
    "Principal",
    "Refusal",
    "ServerKey",
    "Weather",
    "aws_kms",
    "client",
    "session",
]

_MODULES = {
    "Event": "journal",
    "Fault": "weather",
    "KmsServer": "server",
    "Principal": "principals",
    "Refusal": "refusals",
    "ServerKey": "server",
    "Weather": "weather",
    "aws_kms": "clients",
    "client": "clients",
    "session": "clients",
}


def __getattr__(name: str) -> object:
    # Not imported above: pytest loads the plug-in in every run, also those without a KMS.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
