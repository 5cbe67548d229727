"""Which Python values the inner type of a column takes, and how each is written."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import types
from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, PADDED, Codec, pad, unpad
from sqlalchemy_kmsenv.columns.inner_codecs import (
    InnerCodecs,
    NotAcceptedError,
    changes_meaning,
    inner_codecs,
)
from sqlalchemy_kmsenv.columns.variants import DIALECTS
from sqlalchemy_kmsenv.errors import ConfigurationError, EnvelopeError, InvalidValueError


@dataclass(frozen=True, slots=True)
class InnerValues:
    """Encodes what an application gives, decodes what it gets back, as each database has it."""

    inner: types.TypeEngine[Any] = field(repr=False)
    described: str
    pad_to: int | None = None
    _known: MutableMapping[Dialect, InnerCodecs] = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )

    def on(self, dialect: Dialect) -> InnerCodecs:
        """How values are written on one database.

        Raises:
            ConfigurationError: they cannot be.
        """
        found = self._known.get(dialect)
        if found is None:
            found = self._known[dialect] = inner_codecs(self.inner, self.described, dialect)
        return found

    def encode_many(self, values: Sequence[Any], dialect: Dialect) -> Encoded:
        """Value types and payloads of values that are not None.

        Raises:
            InvalidValueError: a value is not one that the inner type holds.
        """
        inner = self.on(dialect)
        refused: type | None = None
        # Raised outside of the except clause: the original exception may hold the value.
        try:
            convert = inner.to_plain
            if convert is not None:
                values = [convert(value, dialect) for value in values]
            return self._encode(inner, values)
        except NotAcceptedError as error:
            refused = error.given
        except Exception:  # noqa: BLE001  a codec or a user's type may raise anything
            refused = None
        given = f"a value of Python type {_type_name(refused)}" if refused else "a value"
        raise InvalidValueError(
            f"{self.described} cannot hold {given} that was given; it takes {inner.takes}"
            f"{_way_out(refused)}. The value is not shown"
        )

    def decoder(self, value_type: int, dialect: Dialect) -> Callable[[bytes], Any]:
        """How payloads of this value type become the application's values.

        What it returns raises for every payload where the column's type holds no such values.

        Raises:
            EnvelopeError: an unknown value type.
        """
        inner = self.on(dialect)
        codec = _codec_of_value_type(value_type)
        if not inner.holds(codec):
            # Only once it has authenticated: the header that says the type may be altered.
            return _no_value_of_the_column
        decode = codec.decode
        if codec is codecs.JSON and inner.from_json is not None:
            decode = inner.from_json
        steps: list[Callable[[Any], Any]] = [decode]
        if value_type & PADDED:
            steps.insert(0, unpad)
        convert = inner.from_plain
        if convert is not None:
            steps.append(lambda plain: convert(plain, dialect))
        return steps[0] if len(steps) == 1 else _in_turn(steps)

    def plain(self, value_type: int, payload: bytes) -> Any:
        """What a payload of any value type says, whatever the column's type is by now.

        Raises:
            EnvelopeError: an unknown value type, or not a payload of this one.
        """
        codec = _codec_of_value_type(value_type)
        return codec.decode(unpad(payload) if value_type & PADDED else payload)

    def what_does_not_fit(self, value_type: int, dialect: Dialect) -> str:
        """Why payloads of this value type do not decode, in words; what may be, where they could.

        Raises:
            EnvelopeError: an unknown value type.
        """
        inner, codec = self.on(dialect), _codec_of_value_type(value_type)
        if inner.holds(codec):
            return (
                "does not decode to what the column holds. Did the column's type, or the members"
                " of its Enum, change?"
            )
        return (
            f"is of the type {codec.name}, and the column takes {inner.takes}: its type changed"
            " after the value was written. Declare the type that it had, and write its values"
            " to a new column of the new type"
        )

    def _encode(self, inner: InnerCodecs, values: Sequence[Any]) -> Encoded:
        kinds = set(map(type, values))
        if len(kinds) == 1:
            codec = _codec(inner, next(iter(kinds)))
            payloads = list(map(codec.encode, values))
            _check_subclasses(inner, values, [codec] * len(values), payloads)
            return Encoded(self._marked(codec), None, self._padded(payloads))
        codecs_used = [_codec(inner, type(value)) for value in values]
        payloads = [codec.encode(value) for codec, value in zip(codecs_used, values, strict=True)]
        _check_subclasses(inner, values, codecs_used, payloads)
        return Encoded(None, [self._marked(codec) for codec in codecs_used], self._padded(payloads))

    def _marked(self, codec: Codec) -> int:
        return codec.value_type | (PADDED if self.pad_to else 0)

    def _padded(self, payloads: list[bytes]) -> list[bytes]:
        multiple = self.pad_to
        return payloads if multiple is None else [pad(payload, multiple) for payload in payloads]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Payloads with one value type for all (``value_type``) or one each (``value_types``)."""

    value_type: int | None
    value_types: list[int] | None
    payloads: list[bytes] = field(repr=False)


def inner_values(inner: types.TypeEngine[Any], described: str, pad_to: int | None) -> InnerValues:
    """How the values of an inner type are written.

    Raises:
        ConfigurationError: they cannot be on any database.
    """
    values = InnerValues(inner, described, pad_to)
    refusals = []
    for dialect in DIALECTS:
        try:
            values.on(dialect)
        except ConfigurationError as error:
            refusals.append(error)
        except Exception:  # noqa: BLE001, S112  a type that is not made for this database
            continue
    if len(refusals) == len(DIALECTS):
        raise refusals[0]
    return values


def _codec_of_value_type(value_type: int) -> Codec:
    codec = CODEC_OF_VALUE_TYPE.get(value_type & ~PADDED)
    if codec is None:
        raise EnvelopeError(f"envelope with unknown value type 0x{value_type:02x}")
    return codec


def _codec(inner: InnerCodecs, given: type) -> Codec:
    if not inner.codec_of:
        return codecs.JSON
    codec = inner.codec_of.get(given)
    if codec is not None:
        return codec
    for base in given.__mro__[1:]:
        if base in inner.codec_of and not changes_meaning(given, base):
            return inner.codec_of[base]
    raise NotAcceptedError(given)


def _check_subclasses(
    inner: InnerCodecs, values: Sequence[Any], used: Sequence[Codec], payloads: Sequence[bytes]
) -> None:
    """Refuse a value of a subclass that would come back as another, such as pandas.NaT."""
    if not inner.codec_of or not set(map(type, values)) - inner.codec_of.keys():
        return
    for value, codec, payload in zip(values, used, payloads, strict=True):
        if type(value) not in inner.codec_of and codec.decode(payload) != value:
            raise NotAcceptedError(type(value))


def _no_value_of_the_column(_: bytes) -> Any:
    raise ValueError("a value of another type")


def _type_name(given: type) -> str:
    """``numpy.bool`` is another type than ``bool``, and called the same."""
    if given.__module__ == "builtins":
        return given.__name__
    return f"{given.__module__}.{given.__qualname__}"


def _way_out(refused: type | None) -> str:
    if refused is None or not refused.__module__.startswith("numpy"):
        return ""
    return "; call its item() for a value of Python's own"


def _in_turn(steps: list[Callable[[Any], Any]]) -> Callable[[bytes], Any]:
    def decode(payload: bytes) -> Any:
        value: Any = payload
        for step in steps:
            value = step(value)
        return value

    return decode
