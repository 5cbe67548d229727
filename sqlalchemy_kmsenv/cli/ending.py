"""How a job of the command line ends: what it prints, and its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from sqlalchemy_kmsenv.cli.documents import print_document
from sqlalchemy_kmsenv.cli.refusals import EXIT_DONE, EXIT_FAILED
from sqlalchemy_kmsenv.cli.tables import report_words, show_report, show_survey, survey_words
from sqlalchemy_kmsenv.rewrap import Report, Survey


def end_survey(survey: Survey, *, as_json: bool) -> NoReturn:
    """Print a survey, and exit."""
    if as_json:
        print_document(survey.to_json())
    else:
        console = Console(highlight=False)
        show_survey(console, survey)
        _last(console, survey_words(survey), ok=survey.ok)
    sys.exit(EXIT_DONE if survey.ok else EXIT_FAILED)


def end_report(report: Report, *, checkpoint: Path | None, as_json: bool) -> NoReturn:
    """Print a report, and exit."""
    ok = report.ok and not (report.dry_run and report.counts.rewritten)
    kept = None if checkpoint is None or report.complete else str(checkpoint)
    if as_json:
        print_document({**report.to_json(), "ok": ok, "checkpoint": kept})
    else:
        console = Console(highlight=False)
        show_report(console, report)
        resume = f" Go on with --resume: {kept} knows where." if kept else ""
        _last(console, report_words(report) + resume, ok=ok)
    sys.exit(EXIT_DONE if ok else EXIT_FAILED)


def _last(console: Console, words: str, *, ok: bool) -> None:
    console.print(Text(words, style="green" if ok else "red", overflow="fold"), soft_wrap=True)
