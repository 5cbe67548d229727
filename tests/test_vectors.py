"""The kept vectors, opened by the library and by a reader that shares no code with it."""

import hashlib
import hmac
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sqlalchemy_kmsenv import errors
from sqlalchemy_kmsenv.aead import LARGE_VALUE_BYTES, AuthenticationError, ValueCipher
from sqlalchemy_kmsenv.codecs import CODECS
from sqlalchemy_kmsenv.envelope import parse_header
from tests.vectors.bugs import is_right, unnoticed
from tests.vectors.opening import TEXT_OF, VECTORS, open_envelope
from tests.vectors.reader import Reader

DOCUMENT = json.loads(VECTORS.read_text(encoding="ascii"))
CASES = DOCUMENT["cases"]
BASE = next(case for case in CASES if case["name"] == "row of int part")
OPENING = [case for case in CASES if case["outcome"] == "opens"]


def named(cases):
    """One parameter a case, under its name."""
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def public_name(error):
    """The class that a caller can catch; a more special one is the library's own affair."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def expand(key, info):
    """HKDF-Expand of RFC 5869 for one block of output."""
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


@named(CASES)
def test_a_vector_has_its_outcome(case):
    """What is stored today is read, or refused, by every later release."""
    stored = bytes.fromhex(case["envelope"])
    if case["outcome"] != "opens":
        with pytest.raises(errors.KmsEnvError) as caught:
            open_envelope(case, stored)
        assert public_name(caught.value) == case["outcome"]
        return

    name, value = open_envelope(case, stored)
    assert {"type": name, "text": TEXT_OF[name](value)} == case["value"]


@named(CASES)
def test_a_reader_that_shares_no_code_agrees(case):
    """Another implementation needs FORMAT.md and AES-GCM, nothing of this package."""
    assert is_right(Reader(), DOCUMENT, case)


def test_each_wrong_reader_is_noticed():
    """Vectors that a wrong reader passes would let it into production."""
    assert list(unnoticed(DOCUMENT)) == []


@pytest.mark.parametrize(
    ("number", "digest"),
    [
        (147, "27b36f9ca1bdce418a168ea69d084d0a851c79a5fdaf15a8101791d6fcccd6cf"),
        (222, "e6c72ef7856e37c27469293edb5e20a87cdaf3ff149e95466aed89e447528b0d"),
    ],
)
def test_vectors_are_append_only(number, digest):
    """What another implementation was tested with stays, in its place."""
    assert hashlib.sha256(json.dumps(CASES[:number]).encode()).hexdigest() == digest


def test_every_value_type_has_vectors_plain_and_padded():
    """A type without a vector could change its encoding unnoticed."""
    seen = {bytes.fromhex(case["envelope"])[54 + len(case["wrapped"]) // 2] for case in OPENING}

    assert seen == {codec.value_type | padded for codec in CODECS for padded in (0, 0x80)}


def test_names_of_vectors_are_unique():
    """Other implementations report by name."""
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_the_kept_file_is_what_the_code_writes():
    """Sealing is as fixed as opening."""
    command = [sys.executable, "-m", "tests.vectors.generate", "--check"]
    assert subprocess.run(command, cwd=VECTORS.parents[2], check=False).returncode == 0


def test_every_truncation_is_refused():
    """There is no shorter envelope inside an envelope."""
    stored = bytes.fromhex(BASE["envelope"])
    for size in range(len(stored)):
        with pytest.raises((errors.EnvelopeError, errors.WrongCellError)):
            open_envelope(BASE, stored[:size])


def test_every_flipped_bit_is_refused_except_in_the_material_hint():
    """The hint only helps rotation; all else is checked, or names another KMS key."""
    stored = bytes.fromhex(BASE["envelope"])
    for bit in range(8 * len(stored)):
        at = bit // 8
        altered = bytearray(stored)
        altered[at] ^= 1 << bit % 8
        if at in range(12, 20):
            assert open_envelope(BASE, bytes(altered)) == ("str", "ping")
            continue
        wanted = (errors.EnvelopeError, errors.WrongCellError)
        with pytest.raises(errors.ConfigurationError if at in range(4, 12) else wanted):
            open_envelope(BASE, bytes(altered))


@pytest.mark.parametrize("size", [LARGE_VALUE_BYTES - 1, LARGE_VALUE_BYTES, LARGE_VALUE_BYTES + 1])
def test_large_values_are_laid_out_as_small_ones(size):
    """The path that spares a copy writes the same bytes."""
    key, nonce, payload = bytes(32), bytes(12), b"x" * size
    header = bytes.fromhex(BASE["envelope"])[: parse_header(bytes.fromhex(BASE["envelope"])).size]
    (envelope,) = ValueCipher(key).seal_many(header, b"prefix", [b"i1:"], [payload], nonce)
    sealed = AESGCM(expand(key, b"sqlalchemy-kmsenv format 1 suite 1 value key"))

    assert bytes(envelope) == header + nonce + sealed.encrypt(nonce, payload, b"prefixi1:")
    assert ValueCipher(key).open(bytes(envelope), len(header), b"prefixi1:") == payload
    with pytest.raises(AuthenticationError):
        ValueCipher(key).open(bytes(envelope), len(header), b"prefixi2:")
