"""What wraps data keys opens what it has wrapped, and nothing else."""

from __future__ import annotations

import pytest

from sqlalchemy_kmsenv.aead import NONCE_BYTES, TAG_BYTES, AuthenticationError, WrappingCipher

DATA = b"associated data"


@pytest.mark.parametrize("size", [0, 1, 16, 32, 1000])
def test_what_was_wrapped_unwraps_and_no_beginning_of_it_does(size):
    """However short: a reader tells altered bytes by one error, and fails on no other."""
    cipher = WrappingCipher(bytes(32))
    plaintext = bytes(range(256)) * 4
    blob = cipher.wrap(plaintext[:size], DATA)

    assert len(blob) == NONCE_BYTES + size + TAG_BYTES
    assert cipher.unwrap(blob, DATA) == plaintext[:size]
    for end in range(min(len(blob), 64)):
        with pytest.raises(AuthenticationError):
            cipher.unwrap(blob[:end], DATA)
    for false in (blob + b"\0", blob[1:], bytes(len(blob))):
        with pytest.raises(AuthenticationError):
            cipher.unwrap(false, DATA)
    with pytest.raises(AuthenticationError):
        cipher.unwrap(blob, b"")
    with pytest.raises(AuthenticationError):
        WrappingCipher(bytes(31) + b"\1").unwrap(blob, DATA)


def test_no_two_wrappings_are_alike():
    """A nonce that came again would give the key away."""
    cipher = WrappingCipher(bytes(32))

    assert len({cipher.wrap(b"data key", DATA)[:NONCE_BYTES] for _ in range(1000)}) == 1000
