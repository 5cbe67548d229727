"""The layout of stored bytes, without any key."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlalchemy_kmsenv.envelope import (
    COMMITMENT_BYTES,
    MAGIC,
    MAX_WRAPPED_BYTES,
    UNKNOWN_MATERIAL,
    InlineReference,
    key_fingerprint,
    material_hint,
    parse_header,
    serialize_header,
)
from sqlalchemy_kmsenv.errors import EnvelopeError

ARN = "arn:aws:kms:eu-central-1:111122223333:key/6e3f6c5e-0000-4000-8000-000000000001"
REFERENCE = InlineReference(b"f" * 8, b"h" * 8, b"c" * 32, b"wrapped")
ENVELOPE = serialize_header(REFERENCE, 2) + bytes(12 + 16)

references = st.builds(
    InlineReference,
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=COMMITMENT_BYTES, max_size=COMMITMENT_BYTES),
    st.binary(min_size=1, max_size=300) | st.just(b"w" * MAX_WRAPPED_BYTES),
)
value_types = st.integers(1, 255)


@given(references, value_types, st.binary(min_size=28, max_size=60), st.binary(max_size=40))
def test_parsing_gives_back_what_was_serialized(reference, value_type, sealed, before):
    """Wherever in a packed cell the envelope begins."""
    header = serialize_header(reference, value_type)
    parsed = parse_header(before + header + sealed, len(before))

    assert (parsed.reference, parsed.value_type) == (reference, value_type)
    assert parsed.size == len(header)


@given(references, value_types, st.binary(min_size=28, max_size=60))
def test_what_parses_serializes_to_the_same_bytes(reference, value_type, sealed):
    """There is one spelling of a header, so none to smuggle another through."""
    stored = serialize_header(reference, value_type) + sealed
    parsed = parse_header(stored)

    assert serialize_header(parsed.reference, parsed.value_type) == stored[: parsed.size]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: ENVELOPE[:4] + rest))
def test_any_bytes_parse_or_are_refused(stored):
    """Foreign bytes never cause another kind of error."""
    try:
        parsed = parse_header(stored)
    except EnvelopeError:
        return
    assert serialize_header(parsed.reference, parsed.value_type) == stored[: parsed.size]


@given(st.text())
def test_text_is_never_an_envelope(text):
    """Plaintext that was in the column before is refused, not misread (clause 2.2)."""
    assert MAGIC not in text.encode()
    with pytest.raises(EnvelopeError):
        parse_header(text.encode())


@pytest.mark.parametrize("size", range(len(ENVELOPE)))
def test_an_envelope_cut_short_is_refused(size):
    """The smallest one holds a nonce and a tag; the message says how far the bytes go."""
    told = "at least" if size >= 54 else "inside the key reference" if size >= 4 else "fewer"
    for start in (0, 3):
        with pytest.raises(EnvelopeError, match=told if size else "Nothing was sealed here"):
            parse_header(bytes(start) + ENVELOPE[:size], start)


@pytest.mark.parametrize("bit", range(8 * 4))
def test_a_flipped_bit_in_the_fixed_bytes_is_refused(bit):
    """Mark, version, suite and kind of reference have one known value each."""
    altered = bytearray(ENVELOPE)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EnvelopeError):
        parse_header(bytes(altered))


@pytest.mark.parametrize(("at", "what"), [(1, "version"), (2, "suite"), (3, "key reference")])
def test_the_refusal_names_what_is_unknown(at, what):
    """Whoever meets an envelope of a newer release learns that."""
    altered = bytearray(ENVELOPE)
    altered[at] = 0x02
    with pytest.raises(EnvelopeError, match=f"unknown .*{what} 0x02"):
        parse_header(bytes(altered))


@pytest.mark.parametrize("length", [0, MAX_WRAPPED_BYTES + 1])
def test_a_wrapped_key_of_impossible_length_is_neither_written_nor_read(length):
    """KMS never makes one, so nothing has to be allocated for one."""
    reference = InlineReference(bytes(8), bytes(8), bytes(32), bytes(length))
    with pytest.raises(EnvelopeError):
        serialize_header(reference, 2)

    stored = ENVELOPE[:52] + length.to_bytes(2, "big") + bytes(length + 29)
    with pytest.raises(EnvelopeError, match=f"{length} bytes"):
        parse_header(stored)


@pytest.mark.parametrize("length", [1, MAX_WRAPPED_BYTES])
def test_the_shortest_and_the_longest_wrapped_key_are_written_and_read(length):
    """The format says how long it may be, and includes both."""
    reference = InlineReference(bytes(8), bytes(8), bytes(32), b"w" * length)
    assert parse_header(serialize_header(reference, 2) + bytes(28)).reference == reference


def test_a_type_that_no_value_has_is_refused():
    """One byte says it, and 0 is none."""
    with pytest.raises(EnvelopeError, match="unknown value type 0x00"):
        parse_header(serialize_header(REFERENCE, 0) + bytes(28))


def test_a_refusal_shows_no_stored_bytes():
    """What is stored may be plaintext that somebody forgot to encrypt."""
    with pytest.raises(EnvelopeError) as caught:
        parse_header(b"a secret in plaintext")
    assert "secret" not in str(caught.value)


def test_the_repr_of_a_reference_shows_neither_wrapped_key_nor_commitment():
    """They are not secret, but long, and a log of them helps nobody."""
    assert "wrapped" not in repr(REFERENCE)
    assert "commitment" not in repr(REFERENCE)


def test_the_fingerprint_is_the_start_of_the_hash_of_the_arn():
    """Eight bytes that anybody can compute from an ARN."""
    assert key_fingerprint(ARN) == hashlib.sha256(ARN.encode()).digest()[:8]


def test_replicas_of_a_multi_region_key_share_their_fingerprint():
    """What one Region wrapped the other unwraps."""
    arn = "arn:aws:kms:{}:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
    assert key_fingerprint(arn.format("eu-west-1")) == key_fingerprint(arn.format("us-east-1"))
    assert key_fingerprint(ARN) != key_fingerprint(ARN.replace("eu-central-1", "eu-west-1"))


@pytest.mark.parametrize("material_id", [None, "", "01234567", "not hexadecimal!"])
def test_an_unknown_material_has_a_hint_of_zeros(material_id):
    """Services that do not tell their material are served as well."""
    assert material_hint(material_id) == UNKNOWN_MATERIAL


def test_the_material_hint_is_the_start_of_its_id():
    """Enough to see which values an old material still wraps."""
    assert material_hint("0123456789abcdef" * 4) == bytes.fromhex("0123456789abcdef")
