"""A KMS for tests: over HTTP on loopback, faithful, with policies, faults and a count."""

from sqlalchemy_kmsenv.testing.journal import Event
from sqlalchemy_kmsenv.testing.principals import Principal
from sqlalchemy_kmsenv.testing.refusals import Refusal
from sqlalchemy_kmsenv.testing.server import KmsServer, ServerKey
from sqlalchemy_kmsenv.testing.weather import Fault, Weather

__all__ = ["Event", "Fault", "KmsServer", "Principal", "Refusal", "ServerKey", "Weather"]
