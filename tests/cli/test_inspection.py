"""``inspect``: every spelling of an envelope, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlalchemy_kmsenv.cli.inspection import header_fields
from sqlalchemy_kmsenv.cli.reading import envelope_bytes
from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.errors import EnvelopeError
from tests.cli.conftest import run, words
from tests.vectors.opening import VECTORS

CASES = json.loads(VECTORS.read_text())["cases"]
OPENING = [case for case in CASES if case["outcome"] == "opens"]
STORED = bytes.fromhex(OPENING[0]["envelope"])
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda stored: stored,
    "hex": lambda stored: stored.hex().encode(),
    "upper": lambda stored: stored.hex().upper().encode(),
    "spaced": lambda stored: stored.hex(" ").encode() + b"\n",
    "PostgreSQL": lambda stored: b"\\x" + stored.hex().encode(),
    "0x": lambda stored: b"0x" + stored.hex().upper().encode(),
    "SQL": lambda stored: b"X'" + stored.hex().encode() + b"'",
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "urlsafe base64": base64.urlsafe_b64encode,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_read_from_argument_file_and_standard_input(spelling, tmp_path):
    """An operator pastes what the database client printed."""
    spelled = SPELLINGS[spelling](STORED)
    (tmp_path / "envelope").write_bytes(spelled)
    expected = header_fields(STORED)

    results = [run("inspect", "--json", "--file", tmp_path / "envelope")]
    results.append(run("inspect", "--json", stdin=spelled))
    results.append(run("inspect", "--json", "-", stdin=spelled))
    if spelling != "raw":
        results.append(run("inspect", "--json", spelled.decode()))

    assert [result.exit_code for result in results] == [0] * len(results)
    assert all(json.loads(result.stdout) == expected for result in results)


@pytest.mark.parametrize("case", OPENING, ids=lambda case: case["name"])
def test_vectors_are_named_field_by_field(case):
    """What FORMAT.md says is what an operator sees."""
    fields = header_fields(bytes.fromhex(case["envelope"]))

    assert fields["wrapped_data_key"] == case["wrapped"]
    assert (fields["format"], fields["suite"], fields["key_reference"]) == (1, 1, 0)
    whole = (fields["header_bytes"], 12, fields["payload_bytes"], 16)
    assert sum(whole) == fields["bytes"] == len(case["envelope"]) // 2
    assert fields["value_type"] == case["value"]["type"]


def test_fields_are_shown_for_people():
    """Without --json."""
    result = run("inspect", STORED.hex())

    assert result.exit_code == 0
    assert "kms key fingerprint" in result.stdout
    assert "key material hint" in result.stdout
    assert words(result.stdout).count(header_fields(STORED)["nonce"]) == 1


def test_no_value_and_no_ciphertext_is_printed():
    """Output goes to tickets and chats."""
    fields = header_fields(STORED)
    payload = STORED[fields["header_bytes"] + 12 :].hex()

    for arguments in ((), ("--json",)):
        assert payload not in words(run("inspect", STORED.hex(), *arguments).stdout)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("e501", "fewer than any envelope has"),
        ("504c41494e54455854", "not an envelope: the first byte is not 0xE5"),
        ("e5020100" + "00" * 100, "unknown format version 0x02"),
        (STORED.hex()[:100], "truncated envelope"),
        (STORED.hex()[:-1], "are no whole number of bytes"),
        ("\\xzz", "neither hexadecimal, base64 nor the bytes of an envelope"),
        ("not an envelope!", "neither hexadecimal, base64 nor the bytes of an envelope"),
        ("", "neither hexadecimal, base64 nor the bytes of an envelope"),
    ],
)
def test_malformed_input_is_refused_in_words(given_text, expected):
    """Exit code 2: a script must not take it for an envelope."""
    result = run("inspect", given_text)

    assert result.exit_code == 2
    assert expected in words(result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["outcome"] == "EnvelopeError"],
    ids=lambda case: case["name"],
)
def test_refused_vectors_never_end_in_a_traceback(case):
    """Those whose header is malformed are refused; others show their header alone."""
    result = run("inspect", case["envelope"])

    assert result.exit_code in (0, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_argument_and_file_together_are_refused(tmp_path):
    """Which was meant?"""
    (tmp_path / "envelope").write_bytes(STORED)

    assert run("inspect", STORED.hex(), "--file", tmp_path / "envelope").exit_code == 2


@given(st.binary(max_size=300))
def test_whatever_is_given_is_read_or_refused(given_bytes):
    """Standard input may be anything."""
    with suppress(Refusal, EnvelopeError):
        assert header_fields(envelope_bytes(given_bytes))["format"] == 1


@given(st.sampled_from(OPENING), st.sampled_from(sorted(SPELLINGS)))
def test_no_spelling_is_mistaken_for_another(case, spelling):
    """Base64 that looks like hexadecimal would show fields of nothing."""
    stored = bytes.fromhex(case["envelope"])

    assert envelope_bytes(SPELLINGS[spelling](stored)) == stored


@given(st.integers(0, len(STORED) - 1))
def test_truncation_inside_of_the_header_is_refused(size):
    """Clients cut long columns."""
    fields = header_fields(STORED)
    minimum = fields["header_bytes"] + 28

    if size < minimum:
        with pytest.raises(EnvelopeError):
            header_fields(STORED[:size])
    else:
        assert header_fields(STORED[:size])["bytes"] == size
