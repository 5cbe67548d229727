"""Each operation by each fault, as ``docs/kms-faults.md`` says."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.testing import faults

CELLS = [
    (fault, operation)
    for fault in faults.FAULTS
    for operation in faults.OPERATIONS
    if fault.seen_by(operation) is not None
]
SLACK_SECONDS = 20
"""For a busy machine: the bound itself is what boto3 was told."""


@pytest.fixture(scope="module")
def seen():
    """All cells at once: they wait, and do not compute."""
    with ThreadPoolExecutor(12) as threads:
        runs = {
            (fault.name, operation): threads.submit(faults.run, fault, operation)
            for fault, operation in CELLS
        }
        yield runs


@pytest.mark.parametrize(
    ("fault", "operation"), CELLS, ids=[f"{fault.name}-{operation}" for fault, operation in CELLS]
)
def test_a_fault_is_seen_as_the_page_says(seen, fault, operation):
    """The error, its code, the number of tries, and an end in time."""
    expected = fault.seen_by(operation)

    found = seen[fault.name, operation].result()

    assert found.sight == expected
    assert found.seconds < found.most_seconds + SLACK_SECONDS
    written = operation == "INSERT" and expected.error is None
    assert found.rows == (2 if written else 1)


def test_the_page_is_what_the_list_says():
    """Written by ``python -m tests.testing.faults``."""
    assert faults.PAGE.read_text() == faults.page()
