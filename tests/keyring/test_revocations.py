"""A data key that may have leaked is believed nowhere: cold, warm, in jobs, and for sealing."""

from typing import Any

import pytest

from sqlalchemy_kmsenv import ConfigurationError, RevokedKeyError, WrongCellError, defaults
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.keyring.revocations import Revocations
from sqlalchemy_kmsenv.kms import CountingKms, LocalKms
from tests.keyring.test_cache import PAIRS, Clock, of_tenant, open_one, reference_of, seal


@pytest.fixture
def kms(tmp_path):
    """A counted key of its own for the test."""
    return CountingKms(LocalKms.create(tmp_path / "k.json"))


@pytest.fixture
def leaked(kms):
    """An envelope whose data key somebody has kept."""
    return seal(Keyring(kms), b"a")[0]


def name_of(envelope):
    """What is put into the list."""
    return reference_of(envelope).commitment.hex()


@pytest.mark.parametrize("spelling", [str, str.upper, "  {}\n".format], ids=["", "upper", "blank"])
def test_a_revoked_data_key_opens_nothing_and_costs_no_call(kms, leaked, spelling):
    """Values sealed under it authenticate, whoever made them."""
    keyring = Keyring(kms, revoked=[spelling(name_of(leaked))])
    for _ in range(2):
        with kms.expect(), pytest.raises(RevokedKeyError, match=name_of(leaked)) as caught:
            open_one(keyring, leaked)
    assert isinstance(caught.value, WrongCellError)
    assert open_one(keyring, seal(keyring, b"b")[0]) == b"b"


def test_revoking_ends_a_data_key_that_is_in_use(kms, leaked):
    """Also for a reader that holds it, and for no other."""
    keyring = Keyring(kms)
    other = seal(keyring, b"b", pairs=of_tenant(1))[0]
    held = keyring.opening_key(PAIRS, reference_of(leaked))
    kept = keyring.opening_key(of_tenant(1), reference_of(other))
    keyring.revoke(name_of(leaked))
    assert held.cipher is None
    assert kept.usable()
    with pytest.raises(RevokedKeyError):
        open_one(keyring, leaked)


def test_a_data_key_that_is_revoked_while_it_is_unwrapped_opens_nothing(kms, leaked):
    """The list may come in another thread, at any moment."""
    keyring: Keyring

    class Late(CountingKms):
        def unwrap(self, wrapped, context, *, key_arn):
            keyring.revoke(name_of(leaked))
            return super().unwrap(wrapped, context, key_arn=key_arn)

    keyring = Keyring(Late(kms))
    with pytest.raises(RevokedKeyError):
        open_one(keyring, leaked)


def test_revoking_the_data_key_that_seals_makes_another_one(kms):
    """What is written next must open."""
    keyring = Keyring(kms)
    (before,) = seal(keyring, b"a")
    keyring.revoke(name_of(before))
    with kms.expect(generate_data_key=1, unwrap=1):
        (after,) = seal(keyring, b"b")
        assert open_one(keyring, after) == b"b"


def test_keyrings_made_from_one_have_its_list(kms, leaked, tmp_path):
    """Jobs work with twins, and with keyrings that move to another key."""
    keyring = Keyring(kms, revoked=[name_of(leaked)], revoked_from=list)
    other = LocalKms.create(tmp_path / "other.json")
    for made in (keyring.twin(lambda service: service), keyring.moving_to(other)):
        assert made.revoked == {name_of(leaked)}
        with pytest.raises(RevokedKeyError):
            open_one(made, leaked)


@pytest.mark.parametrize("warm", [True, False])
def test_a_list_that_is_read_is_read_again_after_a_while(kms, leaked, warm):
    """A row in a table reaches processes that nobody restarts."""
    clock, reads = Clock(), []
    listed: list[str] = []

    def read():
        reads.append(1)
        return listed

    keyring = Keyring(kms, revoked_from=read, clock=clock)
    if warm:
        held = keyring.opening_key(PAIRS, reference_of(leaked))
    listed.append(name_of(leaked))
    clock.now += defaults.REVOCATIONS_READ_SECONDS
    for _ in range(3):
        with pytest.raises(RevokedKeyError):
            open_one(keyring, leaked)
    seal(keyring, b"b")
    assert len(reads) == (2 if warm else 1)
    assert not warm or held.cipher is None
    assert keyring.revoked == {name_of(leaked)}


def test_a_list_is_new_only_where_it_names_more(leaked):
    """What is held is gone through then, and not each minute."""
    clock, listed = Clock(), [name_of(leaked)]
    revocations = Revocations((), lambda: listed, clock)
    told = []
    for further in ([], [], ["ab" * 32], []):
        listed += further
        told.append(revocations.refresh())
        clock.now += defaults.REVOCATIONS_READ_SECONDS
    assert told == [True, False, True, False]


def test_a_list_that_cannot_be_read_stops_everything(kms, leaked):
    """Without it nobody knows what may be believed."""

    def read():
        raise OSError

    keyring = Keyring(kms, revoked_from=read)
    for use in (lambda: open_one(keyring, leaked), lambda: seal(keyring, b"b")):
        with kms.expect(), pytest.raises(ConfigurationError, match=r"cannot be read.*OSError"):
            use()


@pytest.mark.parametrize("wrong", ["ab", "", "g" * 64, b"a" * 64, None, 7])
def test_what_is_no_commitment_is_refused(kms, leaked, wrong):
    """A line with a misprint would revoke nothing."""
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        Keyring(kms, revoked=[wrong])
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        open_one(Keyring(kms, revoked_from=lambda: [wrong]), leaked)
    no_lists: list[Any] = [name_of(leaked), None, 7]
    for one in no_lists:
        with pytest.raises(ConfigurationError, match="list of commitments"):
            Keyring(kms, revoked=one)
