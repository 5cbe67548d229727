"""What the cache of opening goes by: what is authenticated, and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import (
    KeyServiceDeniedError,
    KeyServiceUnavailableError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CachePolicy, CommitmentError, Keyring
from sqlalchemy_kmsenv.kms import CountingKms, LocalKms
from tests.keyring.test_cache import PAIRS, Clock, of_tenant, open_one, reference_of, seal


@pytest.fixture
def local(tmp_path):
    """A key of its own for the test."""
    return LocalKms.create(tmp_path / "k.json")


@pytest.fixture
def kms(local):
    """The same, counted."""
    return CountingKms(local)


def flipped(content, at, bit=0):
    """The same bytes with one bit changed."""
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def with_reference(envelope, **changes):
    """An envelope with other bytes in the parts of its header that nobody authenticates."""
    offsets = {"fingerprint": 4, "material_hint": 12, "commitment": 20, "wrapped": 54}
    for name, content in changes.items():
        at = offsets[name]
        envelope = envelope[:at] + content + envelope[at + len(content) :]
    return envelope


def test_altered_hints_cost_no_call(kms):
    """Eight bytes a row, which anybody may write, made a Decrypt for each row."""
    (envelope,) = seal(Keyring(kms), b"a")
    reader = Keyring(kms)
    with kms.expect(unwrap=1):
        for number in range(50):
            hint = number.to_bytes(8, "big")
            assert open_one(reader, with_reference(envelope, material_hint=hint)) == b"a"
    assert reader.stats().held_for_opening == 1


@pytest.mark.parametrize("part", ["fingerprint", "commitment", "wrapped"])
def test_an_altered_reference_is_refused_warm_as_it_is_cold(kms, part):
    """What the cache holds must not decide whether a damaged value is noticed."""
    (envelope,) = seal(Keyring(kms), b"a")
    content = getattr(reference_of(envelope), part)
    altered = with_reference(envelope, **{part: flipped(content, len(content) // 2)})
    warm = Keyring(kms)
    open_one(warm, envelope)
    found = []
    for keyring in (Keyring(kms), warm, warm):
        with pytest.raises(KmsEnvError) as caught:
            open_one(keyring, altered)
        found.append((type(caught.value), str(caught.value)))
    assert len(set(found)) == 1
    with kms.expect():
        assert open_one(warm, envelope) == b"a"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_history_changes_an_answer(tmp_path_factory, data):
    """Whatever was read before: each envelope opens, or is refused, as in a fresh process."""
    kms = LocalKms.create(tmp_path_factory.mktemp("k") / "k.json")
    envelopes = [seal(Keyring(kms), b"v", pairs=of_tenant(number))[0] for number in (1, 2)]
    one, two = map(reference_of, envelopes)
    kms.rotate()
    renewed = Keyring(kms).rewrap(of_tenant(1), one)
    references = [
        one, two, renewed,
        replace(one, wrapped=two.wrapped), replace(one, commitment=two.commitment),
        replace(one, wrapped=flipped(one.wrapped, 60)), replace(renewed, material_hint=bytes(8)),
        replace(two, wrapped=flipped(two.wrapped, 0)), replace(one, fingerprint=bytes(8)),
    ]  # fmt: skip
    warm = Keyring(kms, cache=CachePolicy(max_entries=data.draw(st.integers(1, 3))))

    def answer(keyring, pairs, reference):
        try:
            return keyring.opening_key(pairs, reference).cipher.commitment
        except KmsEnvError as error:
            return type(error), str(error)

    for _ in range(data.draw(st.integers(1, 25))):
        asked = (
            of_tenant(data.draw(st.sampled_from([1, 2]))),
            data.draw(st.sampled_from(references)),
        )
        assert answer(warm, *asked) == answer(Keyring(kms), *asked)


def test_a_form_that_was_refused_does_not_hurt_the_right_one(kms):
    """Whoever alters one row must not take others with it."""
    (envelope,) = seal(Keyring(kms), b"a")
    reference = reference_of(envelope)
    reader = Keyring(kms)
    for at in (0, 60):
        with pytest.raises(WrongCellError):
            reader.opening_key(PAIRS, replace(reference, wrapped=flipped(reference.wrapped, at)))
    assert open_one(reader, envelope) == b"a"


def test_forms_of_one_data_key_are_one_entry_and_ask_once_each(kms):
    """A re-wrap makes another form each time; a full cache must not be full of one key."""
    (envelope,) = seal(Keyring(kms), b"a")
    keyring = Keyring(kms, cache=CachePolicy(max_entries=2), clock=(clock := Clock()))
    forms = [keyring.rewrap(PAIRS, reference_of(envelope)) for _ in range(10)]
    with kms.expect(unwrap=10):
        ciphers = {id(keyring.opening_key(PAIRS, form).cipher) for form in forms}
    assert len(ciphers) == 1
    assert keyring.stats().held_for_opening == 1
    with kms.expect():
        for form in forms:
            keyring.opening_key(PAIRS, form)
    # The age asks whether this caller still may; that a form holds the key stays true.
    clock.now += defaults.CACHE_MAX_AGE_SECONDS
    with kms.expect(unwrap=1):
        for form in forms:
            keyring.opening_key(PAIRS, form)


def test_a_form_of_another_data_key_is_not_believed_for_its_commitment(kms):
    """A commitment is compared with the data key that was unwrapped, also while one is held."""
    one, other = (reference_of(seal(Keyring(kms), b"a")[0]) for _ in range(2))
    keyring = Keyring(kms)
    keyring.opening_key(PAIRS, one)
    for _ in range(2):
        with pytest.raises(CommitmentError):
            keyring.opening_key(PAIRS, replace(one, wrapped=other.wrapped))


def test_a_refused_data_key_is_not_sent_again_for_a_while(kms):
    """One altered cell cost a Decrypt at each of its reads."""
    clock = Clock()
    (envelope,) = seal(Keyring(kms), b"a")
    altered = replace(reference_of(envelope), commitment=bytes(32))
    foreign = (("kmsenv:table", "other"),)
    keyring = Keyring(kms, clock=clock)

    def ask():
        refusals = set()
        for pairs, reference in ((PAIRS, altered), (foreign, reference_of(envelope))):
            with pytest.raises(WrongCellError) as caught:
                keyring.opening_key(pairs, reference)
            refusals.add((type(caught.value), str(caught.value)))
        return refusals

    with kms.expect(unwrap=2):
        answers = [ask() for _ in range(200)]
    assert all(answer == answers[0] for answer in answers)
    clock.now += defaults.REFUSALS_KEPT_SECONDS
    with kms.expect(unwrap=2):
        ask()
    keyring.forget()
    with kms.expect(unwrap=2):
        ask()


@pytest.mark.parametrize(
    "failure",
    [KeyServiceDeniedError("denied"), KeyServiceUnavailableError("away"), KeyStateError("off")],
    ids=lambda failure: type(failure).__name__,
)
def test_what_may_be_answered_otherwise_is_asked_again(local, failure):
    """A role that was repaired, or a service that is back, must be noticed at once."""

    class FailingKms(CountingKms):
        def unwrap(self, wrapped, context, *, key_arn):
            data_key = super().unwrap(wrapped, context, key_arn=key_arn)
            if self.total < 3:
                raise failure
            return data_key

    (envelope,) = seal(Keyring(local), b"a")
    keyring = Keyring(FailingKms(local))
    for _ in range(2):
        with pytest.raises(type(failure)):
            open_one(keyring, envelope)
    assert open_one(keyring, envelope) == b"a"


def test_refusals_and_forms_are_bounded(kms, monkeypatch):
    """Whoever may write to the table chooses how many different ones there are."""
    monkeypatch.setattr(defaults, "REFUSALS_MAX_KEPT", 3)
    monkeypatch.setattr(defaults, "CACHE_MAX_FORMS", 3)
    (envelope,) = seal(Keyring(kms), b"a")
    reference = reference_of(envelope)
    keyring = Keyring(kms)
    altered = [replace(reference, wrapped=flipped(reference.wrapped, at)) for at in range(5)]
    for bad in altered:
        with pytest.raises(WrongCellError):
            keyring.opening_key(PAIRS, bad)
    assert len(keyring._opened._refusals._kept) == 3
    with kms.expect(unwrap=1), pytest.raises(WrongCellError):
        keyring.opening_key(PAIRS, altered[0])
    forms = [keyring.rewrap(PAIRS, reference) for _ in range(5)]
    for form in [*forms, forms[0]]:
        keyring.opening_key(PAIRS, form)
    assert len(keyring._opening._shelf._forms) == 3


class OwnError(WrongCellError):
    """One of a ``Kms``'s own, whose constructor takes something else."""

    def __init__(self, where, what):
        super().__init__(f"{what} in {where}")


def test_a_refusal_of_a_class_of_its_own_comes_again_as_it_was(local):
    """The second read was a TypeError, of the constructor."""

    class Own(CountingKms):
        def unwrap(self, wrapped, context, *, key_arn):
            calls.append(wrapped)
            raise OwnError("Mars", "damage")

    calls: list[bytes] = []
    keyring = Keyring(Own(local))
    reference = reference_of(seal(Keyring(local), b"a")[0])

    for _ in range(2):
        with pytest.raises(OwnError, match="damage in Mars"):
            keyring.opening_key(PAIRS, reference)
    assert len(calls) == 1
