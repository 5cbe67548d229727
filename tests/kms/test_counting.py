"""The helper by which tests hold the library to its budget of KMS calls."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sqlalchemy_kmsenv.errors import ConfigurationError, WrongCellError
from sqlalchemy_kmsenv.kms import CountingKms, Kms, LocalKms

CONTEXT = {"kmsenv:table": "pings"}


@pytest.fixture
def kms(tmp_path: Path) -> CountingKms:
    """A counted key of its own for the test."""
    return CountingKms(LocalKms.create(tmp_path / "keys.json"))


def test_counts_each_operation_under_its_name(kms):
    """A budget is per operation: they are priced alike but allowed to different roles."""
    made = kms.generate_data_key(CONTEXT)
    kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)
    kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)
    kms.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert kms.calls == {"generate_data_key": 1, "unwrap": 2, "rewrap": 1}
    assert kms.total == 4


def test_answers_as_the_counted_kms_does(kms):
    """A stand-in that answers otherwise would test something else."""
    made = kms.generate_data_key(CONTEXT)
    moved = kms.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn, new_context={"a": "b"})

    assert kms.resolve() == kms.kms.resolve()
    assert kms.kms.unwrap(moved.wrapped, {"a": "b"}, key_arn=moved.key_arn) == made.plaintext
    assert isinstance(kms, Kms)


def test_resolve_is_not_counted(kms):
    """Whether it asks the service cannot be seen from outside."""
    with kms.expect():
        kms.resolve()


def test_a_refused_call_counts(kms):
    """It went to the service, was priced and was logged there."""
    with kms.expect(unwrap=1), pytest.raises(WrongCellError):
        kms.unwrap(b"x", CONTEXT, key_arn=kms.resolve())


def test_expect_counts_the_block_alone(kms):
    """Calls made before must not excuse or spoil what the block does."""
    kms.generate_data_key(CONTEXT)

    with kms.expect(generate_data_key=1):
        kms.generate_data_key(CONTEXT)


@pytest.mark.parametrize("expected", [0, 2])
def test_expect_names_both_numbers_when_they_differ(kms, expected):
    """Too few calls are as wrong as too many, and the reader needs to see which."""
    with (
        pytest.raises(AssertionError, match=f"generate_data_key: expected {expected}, seen 1"),
        kms.expect(generate_data_key=expected),
    ):
        kms.generate_data_key(CONTEXT)


def test_expect_lets_an_exception_of_the_block_through(kms):
    """The cause of a failure must not be hidden behind a wrong count."""
    with pytest.raises(LookupError), kms.expect(unwrap=3):
        raise LookupError


def test_reset_counts_from_zero(kms):
    """A demo counts one act after another."""
    kms.generate_data_key(CONTEXT)

    kms.reset()

    assert kms.total == 0


def test_calls_is_a_copy(kms):
    """A caller that keeps or changes the numbers must not change the count."""
    kms.calls["unwrap"] += 5

    assert kms.total == 0


def test_no_call_of_any_thread_is_lost(kms):
    """Read-ahead unwraps in threads."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: kms.generate_data_key(CONTEXT), range(200)))

    assert kms.calls["generate_data_key"] == 200


def test_inquiries_are_passed_on_and_counted_apart(kms):
    """A preflight must not spend the budget that a test gives to the work itself."""
    made = kms.generate_data_key(CONTEXT)

    described = kms.describe()
    kms.would_generate(CONTEXT)
    kms.would_unwrap(CONTEXT, key_arn=made.key_arn, wrapped=made.wrapped)
    kms.would_rewrap(CONTEXT, key_arn=made.key_arn)

    assert described == kms.kms.describe()
    assert kms.calls == {"generate_data_key": 1}
    assert kms.inquiries == {
        "describe": 1, "would_generate": 1, "would_unwrap": 1, "would_rewrap": 1,
    }  # fmt: skip


def test_an_inquiry_that_the_counted_kms_cannot_answer_is_refused(kms):
    """A third party's service may have the methods of Kms alone."""
    inner = kms.kms

    class Bare:
        resolve = inner.resolve
        generate_data_key = inner.generate_data_key
        unwrap = inner.unwrap
        rewrap = inner.rewrap

    with pytest.raises(ConfigurationError, match="cannot be asked"):
        CountingKms(Bare()).describe()
