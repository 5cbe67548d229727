"""Kinds of keys and of values: for each a column type, and as many different values as wanted."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
    Date,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine


class Level(enum.Enum):
    """A key, or a scope, of few values."""

    LOW = 1
    MID = 2
    HIGH = 3
    TOP = 4
    OVER = 5
    LAST = 6


class Guid(TypeDecorator[uuid.UUID]):
    """A UUID where the database has that type, and 32 digits elsewhere: a well-known recipe."""

    impl = CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> TypeEngine[Any]:
        """By the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(CHAR(32))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """The UUID itself, or its digits."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.hex

    def process_result_value(self, value: Any, dialect: Any) -> uuid.UUID | None:
        """The UUID again."""
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


@dataclass(frozen=True)
class Kind:
    """A type, and its value number ``n``."""

    type: Callable[[], TypeEngine[Any]]
    value: Callable[[int], Any]


def in_sql(value: Any) -> str:
    """A value as the default of a column in the database."""
    return value.name if isinstance(value, enum.Enum) else str(value)


_BYTES_KEY = LargeBinary(16).with_variant(mysql.VARBINARY(16), "mysql", "mariadb")

KEY_PARTS = {
    "server": Kind(Integer, lambda n: n),
    "int": Kind(Integer, lambda n: 10 + n),
    "bigint": Kind(BigInteger, lambda n: 10**12 + n),
    "str": Kind(lambda: String(20), lambda n: f"Key {n} ü"),
    "uuid": Kind(Uuid, lambda n: uuid.UUID(int=(1 << 127) + n)),
    "bytes": Kind(lambda: _BYTES_KEY, lambda n: bytes([0, 255, n])),
    "date": Kind(Date, lambda n: datetime.date(2024, 2, 20 + n)),
    "datetime": Kind(DateTime, lambda n: datetime.datetime(2024, 2, 29, 23, 59, n)),  # noqa: DTZ001
    "enum": Kind(lambda: Enum(Level), lambda n: list(Level)[n - 1]),
    "guid": Kind(Guid, lambda n: uuid.UUID(int=(1 << 126) + n)),
}

KEYS = {
    **{name: (name,) for name in KEY_PARTS},
    "int+str": ("int", "str"),
    "uuid+date": ("uuid", "date"),
    "bytes+enum": ("bytes", "enum"),
    "guid+datetime": ("guid", "datetime"),
    "str+bigint": ("str", "bigint"),
    "int+str+date": ("int", "str", "date"),
    "uuid+enum+datetime": ("uuid", "enum", "datetime"),
}

_EPOCH = datetime.datetime(2020, 1, 1)  # noqa: DTZ001 - the type is naive

INNER = {
    "str": Kind(lambda: String(40), lambda n: f"value {n} é"),
    "int": Kind(Integer, lambda n: 1000 + n),
    "json": Kind(JSON, lambda n: {"n": n, "list": [n, None]}),
    "bytes": Kind(LargeBinary, lambda n: bytes([n, 0, 255])),
    "datetime": Kind(DateTime, lambda n: _EPOCH + datetime.timedelta(hours=n, seconds=n)),
}

SCOPES = {
    "column": (),
    "row": (),
    "key": ("id",),
    "tenant": ("tenant",),
    "day": ("day",),
    "level": ("level",),
    "tenant+region": ("tenant", "region"),
}

SCOPE_COLUMNS = {
    "tenant": Kind(lambda: String(20), lambda n: f"t{n % 2}"),
    "region": Kind(Integer, lambda n: n % 3),
    "day": Kind(Date, lambda n: datetime.date(2023, 1, 1 + n % 2)),
    "level": Kind(lambda: Enum(Level), lambda n: list(Level)[n % 2]),
}

IDENTITIES = {"key": (), "code": ("code",), "code+slot": ("code", "slot")}

IDENTITY_COLUMNS = {
    "code": Kind(lambda: String(20), lambda n: f"code {n}"),
    "slot": Kind(Integer, lambda n: n * 2),
}
