from dataclasses import replace

import pytest

from sqlalchemy_kmsenv import ConfigurationError, Keyring, LocalKms
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.errors import KeyStateError
from sqlalchemy_kmsenv.keyring import CommitmentError
from sqlalchemy_kmsenv.kms import CountingKms
from sqlalchemy_kmsenv.kms.protocol import UnwrappedDataKey

PAIRS = (("kmsenv:column", "c"), ("kmsenv:table", "t"))


class NoUnwrap:
    """A key service whose caller may not Decrypt."""

    def __init__(self, kms):
        self.resolve, self.describe = kms.resolve, kms.describe
        self.generate_data_key, self.rewrap = kms.generate_data_key, kms.rewrap

    def unwrap(self, wrapped, context, *, key_arn):
        raise AssertionError("Decrypt was called")


def sealed_reference(keyring):
    """The key reference of a value that ``keyring`` seals."""
    return parse_header(bytes(keyring.seal_many(PAIRS, 1, b"", [b""], [b"x"])[0])).reference


def test_rewrap_needs_no_decrypt_and_keeps_the_commitment(local_kms):
    """The role of the job is not allowed to see data keys."""
    keyring = Keyring(NoUnwrap(local_kms), context={"app": "billing"})
    old = sealed_reference(keyring)
    local_kms.rotate()

    renewed = keyring.rewrap(PAIRS, old)

    assert renewed.material_hint.hex() == local_kms.material_ids[-1][:16]
    assert (renewed.fingerprint, renewed.commitment) == (old.fingerprint, old.commitment)
    assert renewed.wrapped != old.wrapped


def test_rewrap_leaves_a_former_key(local_kms, tmp_path):
    """Retiring a key means moving what it wrapped, as the keyring lists both."""
    old = sealed_reference(Keyring(local_kms))
    new = LocalKms.create(tmp_path / "new.json", rewraps_from=[local_kms])
    keyring = Keyring(new, unwrap_only=[local_kms])

    renewed = keyring.rewrap(PAIRS, old)

    assert Keyring(new).opening_key(PAIRS, renewed).usable()


def test_rewrap_of_a_key_that_is_not_listed_is_refused_before_any_call(local_kms, tmp_path):
    """Without the pin, KMS would use whatever key the stored bytes name."""
    old = sealed_reference(Keyring(local_kms))
    other = CountingKms(LocalKms.create(tmp_path / "other.json", rewraps_from=[local_kms]))

    with other.expect(), pytest.raises(ConfigurationError, match="unwrap_only"):
        Keyring(other).rewrap(PAIRS, old)


def test_a_header_is_confirmed_by_the_kms_alone(local_kms):
    """A verification must not believe what the cache holds, nor what nobody authenticates."""

    class Telling(CountingKms):
        def unwrap(self, wrapped, context, *, key_arn):
            data_key = UnwrappedDataKey(super().unwrap(wrapped, context, key_arn=key_arn))
            data_key.material_id = local_kms.material_ids[-1]
            return data_key

    kms = Telling(local_kms)
    keyring = Keyring(kms)
    true = sealed_reference(keyring)
    with kms.expect(unwrap=2):
        keyring.confirm(PAIRS, true)
        keyring.confirm(PAIRS, true)
    for altered in (
        replace(true, commitment=bytes(32)),
        replace(true, material_hint=bytes(8)),
        replace(true, material_hint=b"material"),
    ):
        with kms.expect(unwrap=1), pytest.raises(CommitmentError, match="the header names another"):
            keyring.confirm(PAIRS, altered)


def test_a_kms_that_tells_no_material_confirms_every_hint(local_kms):
    """Not every service tells it, and then there is nothing to compare."""
    keyring = Keyring(local_kms)
    keyring.confirm(PAIRS, replace(sealed_reference(keyring), material_hint=b"material"))


def test_an_inquiry_asks_the_kms_and_raises_what_it_says(local_kms):
    """A preflight that says yes, and a job that is refused an hour later, would help nobody."""
    kms = CountingKms(local_kms)
    keyring = Keyring(kms, context={"app": "billing"})
    reference = sealed_reference(keyring)
    inquiries = {
        "would_generate": lambda: keyring.would_seal(PAIRS),
        "would_unwrap": lambda: keyring.would_open(PAIRS, reference),
        "would_rewrap": lambda: keyring.would_rewrap(PAIRS, reference),
    }
    for number, ask in enumerate(inquiries.values(), 1):
        ask()
        assert kms.inquiries == dict.fromkeys(list(inquiries)[:number], 1)
    local_kms.disable()
    for ask in inquiries.values():
        with pytest.raises(KeyStateError):
            ask()


def test_a_twin_has_the_keys_and_the_context_but_no_data_key(local_kms):
    """A job counts and slows its own calls, and must not seal under keys of the application."""
    keyring = Keyring(local_kms, context={"app": "billing"})
    old = sealed_reference(keyring)
    counted: list[CountingKms] = []

    def count(kms):
        counted.append(CountingKms(kms))
        return counted[-1]

    twin = keyring.twin(count)

    assert twin.opening_key(PAIRS, old).usable()
    assert sealed_reference(twin).commitment != old.commitment
    assert counted[0].calls == {"unwrap": 1, "generate_data_key": 1}


def test_describe_falls_back_to_the_arn_alone(local_kms):
    """Where a service tells nothing of its material, the KMS key alone is the target."""
    bare = NoUnwrap(local_kms)
    del bare.describe

    described = Keyring(bare).describe()

    assert (described.arn, described.material_id) == (local_kms.resolve(), None)


def test_keyring_that_moves_to_another_key_opens_what_the_former_sealed(local_kms, tmp_path):
    """An operator names the new key alone; former keys and context come along."""
    LocalKms.create(tmp_path / "next.json")
    keyring = Keyring(local_kms, context={"app": "billing"})
    old = sealed_reference(keyring)

    moved = keyring.moving_to(f"local://{tmp_path / 'next.json'}")

    renewed = moved.rewrap(PAIRS, old)
    assert moved.opening_key(PAIRS, old).usable()
    assert moved.opening_key(PAIRS, renewed).usable()
    assert list(moved.key_arns().values())[1:] == [local_kms.resolve()]
    assert renewed.fingerprint != old.fingerprint


def test_keyring_of_local_uris_rewraps_from_its_former_keys(local_kms, tmp_path):
    """A local key reads the files that it re-wraps from; a URI alone cannot name them."""
    LocalKms.create(tmp_path / "next.json")
    old = sealed_reference(Keyring(local_kms))

    former = [f"local://{tmp_path / 'keys.json'}"]
    keyring = Keyring(f"local://{tmp_path / 'next.json'}", unwrap_only=former)

    assert keyring.opening_key(PAIRS, keyring.rewrap(PAIRS, old)).usable()
