"""``docs/kms-contract.md`` from what was seen: ``python -m tests.contract.page [subject ...]``.

Runs every case against the subjects named (all that are there, without any), keeps the
outcomes in ``seen.json``, and writes the page from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.contract.cases import CASES, Case
from tests.contract.subjects import ABSENT, SUBJECTS

SEEN = Path(__file__).with_name("seen.json")
PAGE = Path(__file__).parents[2] / "docs" / "kms-contract.md"
COLUMNS = {
    "LocalKms": "`LocalKms`",
    "sqlalchemy_kmsenv.testing": "`kmsenv kms serve`",
    "moto": "moto 5.2.5",
    "LocalStack": "LocalStack 2026.3.0",
}
"""The subjects whose outcomes are kept, and the versions that they were seen with."""

_HEAD = """\
# The contract with a key service

What this library expects of a KMS, and what each one that can be had does. Written by
`python -m tests.contract.page`; a test holds every column to what it says here.

The column *KMS* is what the API reference and the API model of AWS KMS say. It was not run
against AWS by whoever wrote this page: with `KMSENV_TEST_AWS_KEY` (the ARN of a key) and
credentials, `make test ARGS=tests/contract` runs the cases that leave a key as it is.
LocalStack is the last release that is free; `make contract-localstack` installs and runs it.

`=` means: as KMS. Anything else is what was seen instead. `-`: it has no such operation.
"""
_PARTS = {
    "library": "Through the library\n\nErrors are those of this library.",
    "api": "Through boto3\n\nErrors are codes of the KMS API.",
}


def applies(case: Case, subject: str) -> bool:
    """Whether a case can be run on a subject."""
    if subject == "AWS":
        return not case.changes_key
    return case.through == "library" or subject != "LocalKms"


def seen_on(subject: str) -> dict[str, str]:
    """The outcome of every case that can be run."""
    with SUBJECTS[subject]() as running:
        return {n: case.outcome(running) for n, case in CASES.items() if applies(case, subject)}


def kept() -> dict[str, dict[str, str]]:
    """What ``seen.json`` holds: outcomes by subject and case."""
    outcomes: dict[str, dict[str, str]] = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    return outcomes


def page(outcomes: dict[str, dict[str, str]]) -> str:
    """The page, from outcomes by subject and case."""
    lines = [_HEAD]
    for through, title in _PARTS.items():
        lines += [f"## {title}\n", f"| case | KMS | {' | '.join(COLUMNS.values())} |"]
        lines.append("|---" * (2 + len(COLUMNS)) + "|")
        for case in CASES.values():
            if case.through == through:
                cells = [_cell(case, outcomes.get(subject, {})) for subject in COLUMNS]
                lines.append(f"| {case.name} | {case.expected} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(case: Case, seen: dict[str, str]) -> str:
    outcome = seen.get(case.name)
    return "-" if outcome is None else "=" if outcome == case.expected else outcome


def main() -> None:
    """Run, keep, write."""
    outcomes = kept()
    for subject in sys.argv[1:] or [s for s in COLUMNS if not ABSENT.get(s)]:
        outcomes[subject] = seen_on(subject)
    SEEN.write_text(json.dumps(outcomes, indent=1) + "\n")
    PAGE.write_text(page(outcomes))


if __name__ == "__main__":
    main()
