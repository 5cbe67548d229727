"""One list of cases on every key service that can be had, and a page that says how they differ."""

import pytest

from tests.contract import page
from tests.contract.cases import CASES
from tests.contract.subjects import ABSENT, SUBJECTS
from tests.testing.test_operations import NEWEST_MODEL

KEPT = page.kept()


@pytest.fixture(scope="module")
def subjects():
    """Each key service, started when it is first asked for and stopped at the end."""
    running, managers = {}, []

    def get(name):
        if name not in running:
            managers.append(SUBJECTS[name]())
            running[name] = managers[-1].__enter__()
        return running[name]

    yield get
    for manager in managers:
        manager.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (subject, name)
        for subject in SUBJECTS
        for name in CASES
        if page.applies(CASES[name], subject) and not ABSENT.get(subject)
    ],
)
def test_a_key_service_does_what_the_page_says(subjects, subject, name):
    """Our two and AWS as documented; the others as was seen, so that a change is noticed."""
    if subject != "LocalKms" and not NEWEST_MODEL:
        pytest.skip("this botocore knows neither on-demand rotation nor key material ids")
    case = CASES[name]

    outcome = case.outcome(subjects(subject))

    assert outcome == (case.expected if subject == "AWS" else KEPT[subject][name])


@pytest.mark.parametrize("subject", ABSENT)
def test_a_key_service_that_is_not_run_is_named(subject):
    """Once each, instead of once a case."""
    if ABSENT[subject]:
        pytest.skip(f"nothing was run against {subject}: {ABSENT[subject]}")


@pytest.mark.parametrize("subject", ["LocalKms", "sqlalchemy_kmsenv.testing"])
def test_our_own_key_services_deviate_nowhere(subject):
    """A deviation of ours is a bug, not a line of the page."""
    differing = {n: o for n, o in KEPT[subject].items() if o != CASES[n].expected}

    assert differing == {}


@pytest.mark.parametrize("subject", page.COLUMNS)
def test_every_case_was_seen(subject):
    """A case without an outcome would be shown as an operation that is not there."""
    assert set(KEPT[subject]) == {n for n, c in CASES.items() if page.applies(c, subject)}


def test_the_page_is_what_was_seen():
    """Written by ``python -m tests.contract.page``."""
    assert page.PAGE.read_text() == page.page(KEPT)
