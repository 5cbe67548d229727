"""The SQLAlchemy layer: the type, reading, writing."""

from sqlalchemy_kmsenv.columns.attach import attach_keyrings
from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.events import listen
from sqlalchemy_kmsenv.columns.packing import PackedCell
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.refused import Refused
from sqlalchemy_kmsenv.columns.revoked_keys import RevokedDataKeys
from sqlalchemy_kmsenv.columns.sealed import Sealed

__all__ = [
    "Encrypted",
    "PackedCell",
    "Refused",
    "RevokedDataKeys",
    "Sealed",
    "UnboundValueError",
    "attach_keyrings",
]

listen()
