"""Surveys and reports for people, on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from sqlalchemy_kmsenv.errors import WrongCellError
from sqlalchemy_kmsenv.rewrap import (
    ColumnReport,
    ColumnSurvey,
    Counts,
    Failure,
    KeyCount,
    Report,
    Survey,
)
from sqlalchemy_kmsenv.rewrap.reports import MAX_FAILURES

_BAR_WIDTH = 20
_SHORT = 16
_SHOWN_FAILURES = 10
_SHOWN_ROWS = 5
_WORDS = {
    "rewrap": {"rewritten": "re-wrapped", "current": "at the target already"},
    "reencrypt": {"rewritten": "encrypted anew", "current": "left alone"},
    "verify": {"opened": "open"},
}
"""The counts that a job of each kind always shows."""
_TO_DO = {"rewrap": "to re-wrap", "reencrypt": "to encrypt anew"}
"""What a dry run says of those that would be rewritten."""
_WHERE_ANY = {
    "changed": "changed meanwhile by others",
    "failed": "failed",
    "not_envelopes": "no envelope",
    "null": "NULL",
    "false_headers": "of these, with a false header",
}


def show_survey(console: Console, survey: Survey) -> None:
    """A table for each column, with a bar for each version of a key."""
    for column in survey.columns:
        _say(console, _survey_heading(column), style="bold")
        console.print(_keys_table(column))
        _show_failures(console, column.failures, column.not_envelopes)


def survey_words(survey: Survey) -> str:
    """The last line of a survey."""
    if survey.stopped is not None:
        return f"Stopped before the last row ({survey.stopped}): other rows are not counted."
    due = sum(column.not_at_target for column in survey.columns)
    foreign = sum(column.not_envelopes for column in survey.columns)
    words = (
        f"{due:,} envelopes are not at the target." if due else "Every envelope is at the target."
    )
    if foreign:
        words += f" {foreign:,} values are no envelopes."
    if not due:
        words += " Headers only: kmsenv verify shows whether they open."
    return words


def show_report(console: Console, report: Report) -> None:
    """What became of the rows of each column, and some of those that failed."""
    for column in report.columns:
        unfinished = "" if column.finished else " so far"
        _say(console, f"{column.column}: {column.counts.rows:,} rows{unfinished}", style="bold")
        console.print(_counts_grid(report, column))
        _show_failures(console, column.failures, _bad(column.counts))
        _show_likely_cause(console, column)
    for note in report.notes:
        _say(console, f"Note: {note}", style="yellow")


def report_words(report: Report) -> str:
    """The last line of a report."""
    counts = report.counts
    bad = _bad(counts)
    words = []
    if report.stopped is not None:
        words.append(f"Stopped before the last row: {report.stopped}.")
    if report.dry_run:
        done = _WORDS[report.kind]["rewritten"]
        words.append(f"A dry run: {counts.rewritten:,} rows would be {done}; nothing was written.")
    if bad:
        words.append(f"{bad:,} of {counts.rows:,} rows failed.")
    if counts.false_headers:
        words.append(
            f"{counts.false_headers:,} headers named the target falsely: somebody altered them."
            + ("" if report.dry_run else " They are mended; run it again to be sure.")
        )
    if report.moved_targets:
        words.append("The key was rotated while the job ran: run it again.")
    return " ".join(words) or _success(report)


def _success(report: Report) -> str:
    if report.kind == "verify":
        return "Every value opens."
    if report.kind == "rewrap":
        return "Every row is at the target."
    return "Every row that was meant is encrypted anew."


def _counts_grid(report: Report, column: ColumnReport) -> Table:
    grid = Table.grid(_right(""), Column(""), padding=(0, 1, 0, 0), pad_edge=True)
    counts = column.counts
    words = dict(_WORDS[report.kind])
    if report.dry_run:
        words["rewritten"] = _TO_DO[report.kind]
    any_words = {name: said for name, said in _WHERE_ANY.items() if getattr(counts, name)}
    for name, said in {**words, **any_words, "kms_calls": "KMS calls"}.items():
        grid.add_row(f"  {getattr(counts, name):,}", said)
    return grid


def _bad(counts: Counts) -> int:
    return counts.failed + counts.not_envelopes


def _survey_heading(column: ColumnSurvey) -> str:
    target = column.target
    material = target.material_hint or "of any age: the key service does not tell"
    null = f", {column.null:,} NULL" if column.null else ""
    other = f", {column.not_envelopes:,} other values" if column.not_envelopes else ""
    lines = [
        f"{column.column}: {column.envelopes:,} envelopes{null}{other}",
        f"target: {target.key_arn} ({target.state}), material {material}",
    ]
    others = {key.key_arn or f"{key.fingerprint}, in no keyring" for key in column.keys}
    lines += (f"also in use: {other}" for other in sorted(others - {target.key_arn}))
    return "\n".join(lines)


def _keys_table(column: ColumnSurvey) -> Table:
    grid = Table(
        Column("KMS key", no_wrap=True),
        Column("material", no_wrap=True),
        _right("envelopes"),
        "share",
        _right("%"),
        "",
        box=box.SIMPLE_HEAD,
    )
    every = max(column.envelopes, 1)
    for key in column.keys:
        grid.add_row(
            _short(key),
            key.material_hint or "unknown",
            f"{key.envelopes:,}",
            ProgressBar(every, key.envelopes, _BAR_WIDTH),
            f"{100 * key.envelopes / every:.0f}",
            _state(key),
        )
    return grid


def _short(key: KeyCount) -> str:
    """The start of the KMS key's id; the heading has the whole ARN."""
    if key.key_arn is None:
        return key.fingerprint
    name = key.key_arn.rpartition("/")[2]
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 3]}..."


def _state(key: KeyCount) -> Text:
    if key.at_target:
        return Text("target", style="green")
    return Text("due", style="yellow") if key.key_arn else Text("cannot open", style="red")


def _show_failures(console: Console, failures: Sequence[Failure], number: int) -> None:
    groups = _alike(failures)
    shown = groups[:_SHOWN_FAILURES]
    for group in shown:
        _say(console, f"  {_group_words(group)}", style="red")
    more = number - sum(map(len, shown))
    if more > 0:
        _say(console, f"  and {more:,} more; --json names up to {MAX_FAILURES} of a column")


def _alike(failures: Sequence[Failure]) -> list[list[Failure]]:
    """Failures that differ in their rows alone, together."""
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        key = (failure.error, failure.finding, _without_row(failure))
        groups.setdefault(key, []).append(failure)
    return list(groups.values())


def _without_row(failure: Failure) -> str:
    return failure.message.replace(f", row ({', '.join(failure.row)})", "")


def _group_words(group: Sequence[Failure]) -> str:
    first = group[0]
    error = f"{first.error} ({first.finding})" if first.finding else first.error
    if len(group) == 1:
        return f"row ({', '.join(first.row)}): {error}: {first.message}"
    rows = [", ".join(each.row) for each in group[:_SHOWN_ROWS]]
    if len(first.row) > 1:
        rows = [f"({row})" for row in rows]
    if len(group) > _SHOWN_ROWS:
        rows.append("...")
    return f"{len(group):,} x {error}: {_without_row(first)}; rows {', '.join(rows)}"


def _show_likely_cause(console: Console, column: ColumnReport) -> None:
    """What may be wrong where no value of a column opens."""
    counts = column.counts
    groups = _alike(column.failures)
    none_opens = 1 < counts.failed == counts.rows - counts.null
    if none_opens and [group[0].error for group in groups] == [WrongCellError.__name__]:
        _say(
            console,
            "  No value opens: was the table or the column renamed, or has its scope or the"
            " keyring's context changed? For a former name: kmsenv reencrypt --former-name"
            " OLD_TABLE.OLD_COLUMN --dry-run",
            style="yellow",
        )


def _say(console: Console, words: str, *, style: str = "") -> None:
    console.print(Text(words, style=style, overflow="fold"), soft_wrap=True)


def _right(header: str) -> Column:
    return Column(header, justify="right")
