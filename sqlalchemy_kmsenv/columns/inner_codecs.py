"""How the values of an inner type are written: by which codecs, behind which conversions."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import types
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.codecs import Codec
from sqlalchemy_kmsenv.columns.variants import (
    Convert,
    driver_hook,
    json_functions,
    on_database,
)
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.json_text import MAX_DEPTH, json_from_bytes, written_document

_NUMBERS: dict[type, Codec] = {
    decimal.Decimal: codecs.DECIMAL,
    int: codecs.INT,
    float: codecs.FLOAT,
}

# The first match decides: an Enum is a String to SQLAlchemy, a Float a Numeric.
_CODECS_OF: tuple[tuple[type[types.TypeEngine[Any]], dict[type, Codec]], ...] = (
    (types.Boolean, {bool: codecs.BOOL}),
    (types.DateTime, {datetime.datetime: codecs.DATETIME}),
    (types.Date, {datetime.date: codecs.DATE}),
    (types.Time, {datetime.time: codecs.TIME}),
    (types.Interval, {datetime.timedelta: codecs.TIMEDELTA}),
    (types.Integer, {int: codecs.INT}),
    (types.Numeric, _NUMBERS),
    (types.Float, _NUMBERS),
    (types.LargeBinary, {bytes: codecs.BYTES}),
    (types.BINARY, {bytes: codecs.BYTES}),
    (types.VARBINARY, {bytes: codecs.BYTES}),
    (types.String, {str: codecs.STR}),
)
_WHOLE = (types.Interval, types.PickleType)
"""Decorators of SQLAlchemy's own that are types for this library."""
_SHOWN_NAMES = 20


class NotAcceptedError(Exception):
    """A value that the inner type does not take; holds its type alone."""

    def __init__(self, given: type) -> None:
        super().__init__()
        self.given = given


@dataclass(frozen=True, slots=True)
class InnerCodecs:
    """``codec_of`` maps the exact Python types that are accepted; empty, all goes through JSON."""

    codec_of: Mapping[type, Codec]
    takes: str
    """What a value may be, for messages."""
    to_plain: Convert | None = None
    """From the application's value to one that a codec takes."""
    from_plain: Convert | None = None
    from_json: Callable[[bytes], Any] | None = field(default=None)
    """The engine's ``json_deserializer``, where it has one."""

    def holds(self, codec: Codec) -> bool:
        """Whether what this codec reads is a value of the inner type."""
        own = set(self.codec_of.values()) or {codecs.JSON}
        # A name of an Enum is a text, and a text that is one of its names a member.
        texts = {codecs.STR, codecs.ENUM}
        return codec in own or (codec in texts and bool(own & texts))


def inner_codecs(inner: types.TypeEngine[Any], described: str, dialect: Dialect) -> InnerCodecs:
    """The codecs of an inner type on one database.

    Raises:
        ConfigurationError: a type whose Python values this library cannot write.
    """
    stored = on_database(inner, dialect, whole=_WHOLE)
    for decorator in stored.decorators:
        hook = driver_hook(decorator)
        if hook is not None:
            raise ConfigurationError(
                f"{described}: {type(decorator).__name__} overrides {hook}, which works on what"
                " the database driver sees; an encrypted column can only use process_bind_param"
                " and process_result_value"
            )
    base = _of_plain(stored.type, described, dialect)
    steps = [*stored.steps, *_some(base.to_plain)]
    if stored.steps and uuid.UUID in base.codec_of:
        # A type of the database's own takes its text as well, and many decorators give it.
        steps.append(lambda value, _: uuid.UUID(value) if isinstance(value, str) else value)
    to_plain = _chain(steps)
    from_plain = _chain([*_some(base.from_plain), *stored.steps_back])
    takes = base.takes
    if stored.steps:
        takes = f"what {type(inner).__name__} makes {takes} of"
    return InnerCodecs(base.codec_of, takes, to_plain, from_plain, base.from_json)


def _of_plain(kind: types.TypeEngine[Any], described: str, dialect: Dialect) -> InnerCodecs:
    if isinstance(kind, types.Enum):
        to_name, from_name = enum_names(kind)
        return InnerCodecs({str: codecs.ENUM}, _names(kind), to_name, from_name)
    if isinstance(kind, types.JSON):
        return _json(dialect)
    if isinstance(kind, types.PickleType):
        return _pickled(kind)
    codec_of = _codec_of(kind)
    if codec_of:
        return InnerCodecs(codec_of, " or ".join(each.__name__ for each in codec_of))
    raise ConfigurationError(
        f"{described}: {type(kind).__name__} is not a type that can be encrypted; use one of"
        " String, LargeBinary, Integer, Float, Numeric, Boolean, Date, Time, DateTime, Interval,"
        " Uuid, Enum, JSON or PickleType, or a TypeDecorator over one of them"
    )


def _codec_of(kind: types.TypeEngine[Any]) -> dict[type, Codec]:
    if isinstance(kind, types.Uuid):
        return {uuid.UUID: codecs.UUID} if kind.as_uuid else {str: codecs.STR}
    for sqlalchemy_type, codec_of in _CODECS_OF:
        if isinstance(kind, sqlalchemy_type):
            return codec_of
    # Types of one dialect, such as PostgreSQL's INTERVAL, share no base with the generic ones.
    try:
        python_type = kind.python_type
    except NotImplementedError:
        return {}
    plain = (codecs.STR, codecs.BYTES, codecs.INT, codecs.FLOAT, codecs.DECIMAL, codecs.BOOL,
             codecs.DATE, codecs.TIME, codecs.DATETIME, codecs.TIMEDELTA, codecs.UUID)  # fmt: skip
    by_name = {codec.name.lower(): codec for codec in plain}
    codec = by_name.get(python_type.__name__.lower())
    return {} if codec is None else {python_type: codec}


def enum_names(inner: types.Enum) -> tuple[Convert, Convert]:
    """From what an application gives for a member to the stored name, and back."""
    names = frozenset(inner.enums)
    if inner.enum_class is None:
        return lambda value, _: _known_name(value, names), lambda name, _: _known_name(name, names)
    # Whatever has __members__ is an Enum to SQLAlchemy; aliases are among them or left out.
    members = list(inner.enum_class.__members__.values())
    if len(members) != len(inner.enums):
        members = list(dict.fromkeys(members))
    member_of = dict(zip(inner.enums, members, strict=True))
    name_of = {member: name for name, member in reversed(member_of.items())}

    def to_name(value: Any, _: Dialect) -> Any:
        name = name_of.get(value)
        return _known_name(value if name is None else name, names)

    return to_name, lambda name, _: member_of[name]


def _known_name(value: Any, names: frozenset[str]) -> Any:
    if not isinstance(value, str) or value not in names:
        raise NotAcceptedError(type(value))
    # Not str(value): a member of a str-mixed Enum calls itself by another name.
    return str.__str__(value)


def _names(inner: types.Enum) -> str:
    shown = ", ".join(inner.enums[:_SHOWN_NAMES])
    more = ", ..." if len(inner.enums) > _SHOWN_NAMES else ""
    of = getattr(inner.enum_class, "__name__", "Enum")
    return f"a member of {of} or its name ({shown}{more})"


def _json(dialect: Dialect) -> InnerCodecs:
    dumps, loads = json_functions(dialect)

    def to_plain(value: Any, _: Dialect) -> Any:
        # JSON.NULL is a value of its own: the document "null", not an absent one.
        plain = None if value is types.JSON.NULL else value
        return plain if dumps is None else written_document(dumps(plain))

    takes = f"what JSON can represent, at most {MAX_DEPTH} levels deep"
    if dumps is None:
        takes += " (for more, such as dates, give create_engine() a json_serializer)"
    else:
        takes = f"what the engine's json_serializer makes JSON of, at most {MAX_DEPTH} levels deep"
    return InnerCodecs({}, takes, to_plain, from_json=None if loads is None else _reader(loads))


def _reader(loads: Callable[[str], Any]) -> Callable[[bytes], Any]:
    def from_json(payload: bytes) -> Any:
        json_from_bytes(payload)
        return loads(payload.decode())

    return from_json


def _pickled(kind: types.PickleType) -> InnerCodecs:
    def to_plain(value: Any, _: Dialect) -> Any:
        return kind.pickler.dumps(value, kind.protocol)

    def from_plain(pickled: bytes, _: Dialect) -> Any:
        return kind.pickler.loads(pickled)

    return InnerCodecs({bytes: codecs.BYTES}, "what can be pickled", to_plain, from_plain)


def _some(convert: Convert | None) -> list[Convert]:
    return [] if convert is None else [convert]


def _chain(steps: list[Convert]) -> Convert | None:
    if len(steps) < 2:
        return steps[0] if steps else None

    def convert(value: Any, dialect: Dialect) -> Any:
        for step in steps:
            value = step(value, dialect)
        return value

    return convert


def changes_meaning(given: type, base: type) -> bool:
    """Whether a value of a subclass comes back as another than it went in."""
    # True is an int and a datetime a date to Python. What mixes a str with an Enum is stored
    # as that str by every driver, and equals it.
    if issubclass(given, enum.Enum) and base not in (str, int):
        return True
    return issubclass(given, bool) or (
        base is datetime.date and issubclass(given, datetime.datetime)
    )
