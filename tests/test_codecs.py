"""Values to payload bytes and back."""

import datetime
import decimal
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlalchemy_kmsenv import codecs
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, CODECS, PADDED, pad, unpad
from sqlalchemy_kmsenv.errors import EnvelopeError
from sqlalchemy_kmsenv.json_text import MAX_DEPTH

text = st.text()
_DAY, _TICK = datetime.timedelta(1), datetime.timedelta(microseconds=1)
# Python's own parser drops offsets of less than a second.
offsets = (
    st.timedeltas(_TICK - _DAY, _DAY - _TICK)
    | st.integers(-999_999, 999_999).map(lambda n: n * _TICK)
).map(datetime.timezone)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
values_of = {
    codecs.BYTES: st.binary(),
    codecs.STR: text,
    codecs.INT: st.integers(),
    codecs.FLOAT: st.floats(allow_nan=False),
    codecs.DECIMAL: st.decimals(allow_nan=False),
    codecs.BOOL: st.booleans(),
    codecs.DATE: st.dates(),
    codecs.TIME: st.times(timezones=st.none() | offsets),
    codecs.DATETIME: st.datetimes(timezones=st.none() | offsets),
    codecs.TIMEDELTA: st.timedeltas(),
    codecs.UUID: st.uuids(),
    codecs.JSON: documents,
    codecs.ENUM: text,
}
codecs_and_values = st.one_of(
    *(st.tuples(st.just(codec), values) for codec, values in values_of.items())
)
_LONG = datetime.timedelta(hours=21, minutes=32, seconds=43, microseconds=54)


def test_every_codec_is_tested_here():
    """A new codec comes with its strategy."""
    assert list(values_of) == list(CODECS)


@given(codecs_and_values)
@example((codecs.TIME, datetime.time(1, tzinfo=datetime.timezone(_LONG))))
@example((codecs.TIME, datetime.time(1, tzinfo=datetime.timezone(-_LONG))))
def test_a_value_comes_back_equal_and_of_the_same_type(case):
    """Whatever the inner type of the column."""
    codec, value = case
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


@given(codecs_and_values)
def test_what_decodes_encodes_to_the_same_bytes(case):
    """Re-encryption does not drift; -0.0, exponents and offsets stay what they are."""
    codec, value = case
    payload = codec.encode(value)
    assert codec.encode(codec.decode(payload)) == payload


@given(codecs_and_values)
def test_payloads_are_bytes(case):
    """The cipher copies nothing else."""
    codec, value = case
    assert type(codec.encode(value)) is bytes


def test_not_a_number_comes_back_as_such():
    """It is a value, though equal to nothing."""
    assert math.isnan(codecs.FLOAT.decode(codecs.FLOAT.encode(math.nan)))
    for value in ("NaN", "-sNaN12"):
        back = codecs.DECIMAL.decode(codecs.DECIMAL.encode(decimal.Decimal(value)))
        assert str(back) == value


def test_value_types_are_distinct_and_leave_the_padding_bit_free():
    """A value type is one byte of the envelope."""
    assert [codec.value_type for codec in CODECS] == list(range(0x01, 0x0E))
    assert len(CODEC_OF_VALUE_TYPE) == len(CODECS)
    assert not any(value_type & PADDED for value_type in CODEC_OF_VALUE_TYPE)


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (codecs.STR, b"\xff"),
        (codecs.FLOAT, bytes(7)),
        (codecs.DECIMAL, b"ten"),
        (codecs.BOOL, b""),
        (codecs.BOOL, b"\x02"),
        (codecs.DATE, b"2024-02-30"),
        (codecs.TIME, b"24:01"),
        (codecs.DATETIME, b"yesterday"),
        (codecs.TIMEDELTA, bytes(11)),
        (codecs.UUID, bytes(15)),
        (codecs.TIME, b"01:02:03+00:00:00.5"),
        (codecs.DATETIME, b"2024-02-29T00:00:00+00:00:00.000000"),
        (codecs.JSON, b"{"),
        (codecs.JSON, '{"a":1}'.encode("utf-16")),
        (codecs.JSON, '{"a":1}'.encode("utf-32-le")),
        (codecs.JSON, b'\xef\xbb\xbf{"a":1}'),
        (codecs.JSON, b'"\xed\xa0\x80"'),
        (codecs.JSON, b"[1,-1e400]"),
        (codecs.JSON, b"1" + b"0" * 309 + b".0"),
        (codecs.ENUM, b"\xff"),
    ],
)
def test_a_payload_of_another_shape_does_not_decode(codec, payload):
    """A damaged value is an error, never another value."""
    with pytest.raises(Exception):  # noqa: B017, PT011  the caller turns any into EnvelopeError
        codec.decode(payload)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"x", "\ud800", [object()]])
def test_what_json_cannot_say_is_refused_without_its_value(value):
    """NaN would be no JSON (RFC 8259); neither message nor cause shows the value."""
    with pytest.raises(ValueError, match=r"not representable in JSON \(RFC 8259\)") as caught:
        codecs.JSON.encode(value)
    assert caught.value.__suppress_context__


def nested(depth, leaf):
    """Arrays and objects in turn, so many inside of each other."""
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"a": leaf}
    return leaf


@pytest.mark.parametrize("leaf", [1, "[[{", '\\"[', [], [[], {}] * 200])
def test_json_is_written_as_deep_as_every_reader_reads(leaf):
    """What a shallow stack wrote, a deeper one could not read, nor the page that it is on."""
    deepest = nested(MAX_DEPTH - 2, leaf)
    assert codecs.JSON.decode(codecs.JSON.encode(deepest)) == deepest
    for deeper in (nested(MAX_DEPTH + 1, leaf), nested(900, leaf), nested(100_000, leaf)):
        with pytest.raises(ValueError, match="not representable"):
            codecs.JSON.encode(deeper)


@given(documents)
def test_json_is_compact_utf_8(value):
    """Other implementations read it with any parser."""
    payload = codecs.JSON.encode(value)
    assert json.loads(payload.decode("utf-8")) == value


@given(st.binary(max_size=70), st.integers(1, 64))
def test_padding_comes_off_whole(payload, multiple):
    """Also from payloads that look like padding themselves."""
    padded = pad(payload, multiple)
    assert unpad(padded) == payload
    assert len(padded) % multiple == 0
    assert len(payload) < len(padded) <= len(payload) + multiple


@pytest.mark.parametrize("padded", [b"", b"\x00", bytes(16), b"text", b"text\x00\x00"])
def test_padding_without_its_mark_is_refused(padded):
    """Never guessed at."""
    with pytest.raises(EnvelopeError, match="padding without its mark"):
        unpad(padded)
