"""Which Python values the inner type of a column takes, and how each is written."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import types
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, PADDED, Codec, pad, unpad
from sqlalchemy_kmsenv.columns.variants import Convert, driver_hook
from sqlalchemy_kmsenv.errors import ConfigurationError, EnvelopeError, InvalidValueError

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


@dataclass(frozen=True, slots=True)
class InnerValues:
    """Encodes what an application gives, decodes what it gets back.

    ``codec_of`` maps the exact Python types that are accepted; where it is empty
    every value goes through ``JSON``.
    """

    described: str
    codec_of: Mapping[type, Codec] = field(repr=False)
    to_plain: Convert | None = field(default=None, repr=False)
    """From the application's value to one that a codec takes."""
    from_plain: Convert | None = field(default=None, repr=False)
    pad_to: int | None = None

    def encode_many(self, values: Sequence[Any], dialect: Dialect) -> Encoded:
        """Value types and payloads of values that are not None.

        Raises:
            InvalidValueError: a value is not one that the inner type holds.
        """
        refused: type | None = None
        # Raised outside of the except clause: the original exception may hold the value.
        try:
            if self.to_plain is not None:
                values = [self.to_plain(value, dialect) for value in values]
            return self._encode(values)
        except _NotAcceptedError as error:
            refused = error.given
        except Exception:  # noqa: BLE001  a codec or a user's type may raise anything
            refused = None
        given = f"a value of Python type {refused.__name__}" if refused else "a value"
        raise InvalidValueError(
            f"{self.described} cannot hold {given} that was given; it takes"
            f" {self._accepted()}. The value is not shown"
        )

    def decoder(self, value_type: int, dialect: Dialect) -> Callable[[bytes], Any]:
        """How payloads of this value type become the application's values.

        Raises:
            EnvelopeError: an unknown value type.
        """
        codec = CODEC_OF_VALUE_TYPE.get(value_type & ~PADDED)
        if codec is None:
            raise EnvelopeError(f"envelope with unknown value type 0x{value_type:02x}")
        steps: list[Callable[[Any], Any]] = [codec.decode]
        if value_type & PADDED:
            steps.insert(0, unpad)
        convert = self.from_plain
        if convert is not None:
            steps.append(lambda plain: convert(plain, dialect))
        return steps[0] if len(steps) == 1 else _in_turn(steps)

    def _encode(self, values: Sequence[Any]) -> Encoded:
        kinds = set(map(type, values))
        if len(kinds) == 1:
            codec = self._codec(next(iter(kinds)))
            payloads = list(map(codec.encode, values))
            self._check_subclasses(values, [codec] * len(values), payloads)
            return Encoded(self._marked(codec), None, self._padded(payloads))
        codecs_used = [self._codec(type(value)) for value in values]
        payloads = [codec.encode(value) for codec, value in zip(codecs_used, values, strict=True)]
        self._check_subclasses(values, codecs_used, payloads)
        return Encoded(None, [self._marked(codec) for codec in codecs_used], self._padded(payloads))

    def _codec(self, given: type) -> Codec:
        if not self.codec_of:
            return codecs.JSON
        codec = self.codec_of.get(given)
        if codec is not None:
            return codec
        for base in given.__mro__[1:]:
            if base in self.codec_of and not _changes_meaning(given, base):
                return self.codec_of[base]
        raise _NotAcceptedError(given)

    def _check_subclasses(
        self, values: Sequence[Any], used: Sequence[Codec], payloads: Sequence[bytes]
    ) -> None:
        """Refuse a value of a subclass that would come back as another, such as pandas.NaT."""
        if not self.codec_of or not set(map(type, values)) - self.codec_of.keys():
            return
        for value, codec, payload in zip(values, used, payloads, strict=True):
            if type(value) not in self.codec_of and codec.decode(payload) != value:
                raise _NotAcceptedError(type(value))

    def _marked(self, codec: Codec) -> int:
        return codec.value_type | (PADDED if self.pad_to else 0)

    def _padded(self, payloads: list[bytes]) -> list[bytes]:
        multiple = self.pad_to
        return payloads if multiple is None else [pad(payload, multiple) for payload in payloads]

    def _accepted(self) -> str:
        return " or ".join(kind.__name__ for kind in self.codec_of) or "what JSON can represent"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Payloads with one value type for all (``value_type``) or one each (``value_types``)."""

    value_type: int | None
    value_types: list[int] | None
    payloads: list[bytes] = field(repr=False)


class _NotAcceptedError(Exception):
    def __init__(self, given: type) -> None:
        super().__init__()
        self.given = given


def inner_values(inner: types.TypeEngine[Any], described: str, pad_to: int | None) -> InnerValues:
    """The codecs of an inner type.

    Raises:
        ConfigurationError: a type whose Python values this library cannot write.
    """
    if isinstance(inner, types.Enum):
        to_name, from_name = enum_names(inner)
        return InnerValues(described, {str: codecs.ENUM}, to_name, from_name, pad_to)
    if isinstance(inner, types.JSON):
        return InnerValues(described, {}, _json_null, None, pad_to)
    if isinstance(inner, types.Uuid):
        of_uuid: dict[type, Codec] = (
            {uuid.UUID: codecs.UUID} if inner.as_uuid else {str: codecs.STR}
        )
        return InnerValues(described, of_uuid, pad_to=pad_to)
    for sqlalchemy_type, codec_of in _CODECS_OF:
        if isinstance(inner, sqlalchemy_type):
            return InnerValues(described, codec_of, pad_to=pad_to)
    if isinstance(inner, types.TypeDecorator):
        return _decorated(inner, described, pad_to)
    codec = _codec_by_python_type(inner)
    if codec is not None:
        return InnerValues(described, {inner.python_type: codec}, pad_to=pad_to)
    raise ConfigurationError(
        f"{described}: {type(inner).__name__} is not a type that can be encrypted; use one of"
        " String, LargeBinary, Integer, Float, Numeric, Boolean, Date, Time, DateTime, Interval,"
        " Uuid, Enum or JSON, or a TypeDecorator over one of them"
    )


def _codec_by_python_type(inner: types.TypeEngine[Any]) -> Codec | None:
    # Types of one dialect, such as PostgreSQL's INTERVAL, share no base with the generic ones.
    try:
        name = inner.python_type.__name__
    except NotImplementedError:
        return None
    plain = (codecs.STR, codecs.BYTES, codecs.INT, codecs.FLOAT, codecs.DECIMAL, codecs.BOOL,
             codecs.DATE, codecs.TIME, codecs.DATETIME, codecs.TIMEDELTA, codecs.UUID)  # fmt: skip
    by_name = {codec.name.lower(): codec for codec in plain}
    return by_name.get(name.lower())


def _decorated(inner: types.TypeDecorator[Any], described: str, pad_to: int | None) -> InnerValues:
    hook = driver_hook(inner)
    if hook is not None:
        raise ConfigurationError(
            f"{described}: {type(inner).__name__} overrides {hook}, which works on what the"
            " database driver sees; an encrypted column can only use process_bind_param and"
            " process_result_value"
        )
    base = inner_values(inner.impl_instance, described, pad_to)
    overrides = type(inner).process_bind_param is not types.TypeDecorator.process_bind_param
    to_plain = _chain(inner.process_bind_param if overrides else None, base.to_plain)
    overrides = type(inner).process_result_value is not types.TypeDecorator.process_result_value
    from_plain = _chain(base.from_plain, inner.process_result_value if overrides else None)
    return InnerValues(described, base.codec_of, to_plain, from_plain, pad_to)


def _chain(first: Convert | None, second: Convert | None) -> Convert | None:
    if first is None or second is None:
        return first or second
    return lambda value, dialect: second(first(value, dialect), dialect)


def enum_names(inner: types.Enum) -> tuple[Convert, Convert]:
    """From what an application gives for a member to the stored name, and back."""
    names = frozenset(inner.enums)
    if inner.enum_class is None:
        return lambda value, _: _known_name(value, names), lambda name, _: _known_name(name, names)
    members = list(inner.enum_class)
    if len(members) != len(inner.enums):
        members = list(inner.enum_class.__members__.values())
    member_of = dict(zip(inner.enums, members, strict=True))
    name_of = {member: name for name, member in reversed(member_of.items())}

    def to_name(value: Any, _: Dialect) -> Any:
        return name_of[value] if isinstance(value, enum.Enum) else _known_name(value, names)

    return to_name, lambda name, _: member_of[name]


def _known_name(value: Any, names: frozenset[str]) -> Any:
    if value not in names:
        raise _NotAcceptedError(type(value))
    # Not str(value): a member of a str-mixed Enum calls itself by another name.
    return str.__str__(value)


def _json_null(value: Any, _: Dialect) -> Any:
    # JSON.NULL is a value of its own: the document "null", not an absent one.
    return None if value is types.JSON.NULL else value


def _changes_meaning(given: type, base: type) -> bool:
    # True is an int and a datetime a date to Python, but neither comes back as it went in.
    return issubclass(given, (enum.Enum, bool)) or (
        base is datetime.date and issubclass(given, datetime.datetime)
    )


def _in_turn(steps: list[Callable[[Any], Any]]) -> Callable[[bytes], Any]:
    def decode(payload: bytes) -> Any:
        value: Any = payload
        for step in steps:
            value = step(value)
        return value

    return decode
