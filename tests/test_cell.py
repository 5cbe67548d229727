"""The bytes that bind a value to its place."""

import datetime
import enum
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    DATETIME_PART,
    INT_PART,
    PART_KINDS,
    STR_PART,
    UUID_PART,
    Cell,
    associated_prefix,
    context_text,
    join_parts,
    readable_part,
    split_section,
)
from sqlalchemy_kmsenv.envelope import MAGIC

text = st.text(max_size=12)
values_of_kind = {
    INT_PART: st.integers(),
    STR_PART: text,
    UUID_PART: st.uuids(),
    BYTES_PART: st.binary(max_size=12),
    DATE_PART: st.dates(),
    DATETIME_PART: st.datetimes()
    | st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)).map(  # noqa: DTZ001
        lambda value: value.replace(tzinfo=datetime.UTC)
    ),
}
keys = st.one_of(*(st.tuples(st.just(kind), values) for kind, values in values_of_kind.items()))
parts = keys.map(lambda key: key[0].encode(key[1])[:-1])
sections = st.lists(parts, max_size=3).map(tuple)
cells = st.builds(Cell, text, text, sections, sections)


EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


class Colour(str, enum.Enum):  # noqa: UP042  StrEnum has another str()
    """A str to Python, and something else to a database."""

    RED = "red"


class Name(str):
    """A str in all that matters."""


@given(cells, cells, st.integers(1, 255), st.integers(1, 255))
def test_distinct_cells_never_share_associated_data(one, other, type_of_one, type_of_other):
    """Nothing that was sealed for one place, as one type, opens as another."""
    same = (one, type_of_one) == (other, type_of_other)
    equal = one.associated_data(type_of_one) == other.associated_data(type_of_other)
    assert equal == same


@given(text, text, sections, sections)
def test_moving_a_boundary_changes_the_associated_data(table, column, row, scope):
    """Lengths and counts stand before what they delimit."""
    one = Cell(table, column, row, scope)
    joined = table + column
    for at in range(len(joined) + 1):
        for cut in range(len(row + scope) + 1):
            both = row + scope
            other = Cell(joined[:at], joined[at:], both[:cut], both[cut:])
            assert (other.associated_data(2) == one.associated_data(2)) == (other == one)


def test_associated_data_is_what_clause_4_says():
    """Spelled out once, byte by byte."""
    cell = Cell("pings", "pos", (b"i1", b"s61"), (b"i7",))
    expected = b"\xe5\x01\x01\x02\x02\x01\x00\x05pings\x00\x03posi1:s61:i7:"
    assert cell.associated_data(2) == expected
    assert associated_prefix("pings", "pos", 2, 1, 2) == expected.removesuffix(b"i1:s61:i7:")


@given(keys, keys)
def test_distinct_keys_have_distinct_parts(one, other):
    """Also across kinds: the number 1 is not the text "1"."""
    assert (one[0].encode(one[1]) == other[0].encode(other[1])) == (one == other)


@given(keys)
def test_a_part_is_ascii_with_one_colon_at_its_end(key):
    """So the end of the parts is found, and the mark of an envelope is never in one."""
    part = key[0].encode(key[1])
    assert part.isascii()
    assert part.find(b":") == len(part) - 1
    assert MAGIC not in part


@given(st.lists(parts, max_size=5))
def test_a_section_splits_into_its_parts(section):
    """Reading finds the parts that writing joined."""
    assert list(split_section(b"".join(part + b":" for part in section))) == section


def test_parts_are_joined_row_by_row():
    """One section a row, one list a column."""
    assert join_parts([[b"i1:", b"i2:"], [b"s:", b"s61:"]]) == [b"i1:s:", b"i2:s61:"]
    assert join_parts([[b"i1:", b"i2:"]]) == [b"i1:", b"i2:"]
    assert join_parts([]) == []


@pytest.mark.parametrize(
    ("kind", "value", "part", "in_context"),
    [
        (INT_PART, -42, b"i-42:", "-42"),
        (STR_PART, "caf\u00e9:", b"s636166c3a93a:", "caf\u00e9:"),
        (STR_PART, "", b"s:", ""),
        (
            UUID_PART,
            uuid.UUID("12345678-9abc-4def-8123-456789abcdef"),
            b"u123456789abc4def8123456789abcdef:",
            "12345678-9abc-4def-8123-456789abcdef",
        ),
        (BYTES_PART, b"\x00\xff", b"b00ff:", "00ff"),
        (DATE_PART, datetime.date(999, 1, 2), b"d0999-01-02:", "0999-01-02"),
        (
            DATETIME_PART,
            datetime.datetime(999, 1, 2, 3, 4, 5),  # noqa: DTZ001  one without a zone
            b"t09990102T030405.000000:",
            "0999-01-02T03:04:05.000000",
        ),
        (
            DATETIME_PART,
            datetime.datetime(2026, 3, 29, 2, 59, 59, 123456, tzinfo=EAST),
            b"t20260328T212959.123456Z:",
            "2026-03-28T21:29:59.123456Z",
        ),
    ],
)
def test_parts_and_context_texts_are_what_the_format_says(kind, value, part, in_context):
    """The database renders the same text as Python."""
    assert kind.encode_many([value]) == [part]
    assert context_text(part[:-1]) == in_context
    assert readable_part(part[:-1]) == in_context


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (INT_PART, True),
        (INT_PART, "1"),
        (INT_PART, None),
        (DATE_PART, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
        (DATETIME_PART, datetime.date(2024, 1, 1)),
        (STR_PART, Colour.RED),
        (STR_PART, b"bytes"),
        (UUID_PART, "12345678-9abc-4def-8123-456789abcdef"),
        (BYTES_PART, bytearray(b"x")),
    ],
)
def test_a_value_of_another_type_names_no_row(kind, value):
    """A database may store it otherwise; the message names types alone, not the value."""
    with pytest.raises(TypeError, match=f"expected {kind.python_type.__name__}") as caught:
        kind.encode_many([value])
    assert str(caught.value).endswith(f"{type(value).__module__}.{type(value).__qualname__}")


def test_the_value_of_another_type_is_told_among_others():
    """Not the first of a batch, which is right."""
    with pytest.raises(TypeError, match=r"got builtins\.bool$"):
        INT_PART.encode_many([1, True])


def test_a_harmless_subclass_is_its_base():
    """Frameworks hand out str subclasses."""
    assert STR_PART.encode_many([Name("a"), "a"]) == [b"s61:", b"s61:"]


def test_the_letters_of_the_kinds_differ():
    """They alone keep the kinds apart."""
    assert len({kind.letter for kind in PART_KINDS}) == len(PART_KINDS)


@pytest.mark.parametrize("part", [b"", b"x1", b"szz", b"u12", b"s\xff", b"t2024"])
def test_a_part_that_nobody_wrote_is_unreadable_but_no_error(part):
    """It stands in error messages, which must not fail themselves."""
    assert readable_part(part) == "unreadable"
    with pytest.raises(ValueError, match=r".*"):
        context_text(part)


def test_a_name_of_more_than_65535_bytes_is_refused():
    """Its length has two bytes."""
    Cell("t" * 65_535, "c").associated_data(2)
    with pytest.raises(ValueError, match="at most 65535 bytes"):
        Cell("t" * 65_536, "c").associated_data(2)


def test_a_cell_reads_as_table_column_and_row():
    """As messages show it, without its scope."""
    assert str(Cell("pings", "pos", (b"i1", b"s61"), (b"i7",))) == "pings.pos, row (1, a)"
    assert str(Cell("pings", "pos")) == "pings.pos"
