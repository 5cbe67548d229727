"""After a rotation: count what is under which key material, re-wrap all of it, and verify."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import Engine

from examples.locations.models import Base, Ping
from sqlalchemy_kmsenv.cli.progress import shown_progress
from sqlalchemy_kmsenv.rewrap import KeyCount, Report, rewrap, survey, verify

_BAR_WIDTH = 12
_SHOWN_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Aftermath:
    """The jobs over the whole table, as a script runs them; `kmsenv` runs the same."""

    console: Console
    engine: Engine

    def survey(self) -> None:
        """A bar for each version of the key."""
        [found] = survey(self.engine, Base.metadata, columns=[Ping.position]).columns
        grid = Table("material", Column("pings", justify="right"), "share", "")
        for key in found.keys:
            bar = ProgressBar(max(found.envelopes, 1), key.envelopes, _BAR_WIDTH)
            hint = (key.material_hint or "unknown")[:_SHOWN_DIGITS]
            grid.add_row(hint, f"{key.envelopes:,}", bar, _state(key))
        self.console.print(grid)

    def rewrap(self) -> None:
        """Every data key wrapped by the newest material; no value is opened."""
        with shown_progress(self.console, self._say) as on_progress:
            report = rewrap(
                self.engine, Base.metadata, columns=[Ping.position], on_progress=on_progress
            )
        counts = report.counts
        self._say(
            f"{counts.rewritten:,} positions re-wrapped, {counts.current:,} at the target already:"
            f" {counts.kms_calls} KMS calls, one for each data key.",
            style="green",
        )
        self._say_failures(report)

    def verify(self) -> None:
        """Every value opened once."""
        with shown_progress(self.console, self._say) as on_progress:
            report = verify(
                self.engine, Base.metadata, columns=[Ping.position], on_progress=on_progress
            )
        self._say(f"{report.counts.opened:,} positions open.", style="green")
        self._say_failures(report)

    def _say_failures(self, report: Report) -> None:
        failures = [failure for column in report.columns for failure in column.failures]
        if failures:
            number = report.counts.failed + report.counts.not_envelopes
            first = failures[0]
            self._say(
                f"{number:,} do not, and stay as they are; the first, row ({', '.join(first.row)}):"
                f" {first.error}: {first.message}",
                style="yellow",
            )

    def _say(self, words: str, *, style: str = "") -> None:
        self.console.print(Text(words, style=style, overflow="fold"))


def _state(key: KeyCount) -> str:
    if key.at_target:
        return "newest"
    return "older" if key.key_arn else "other key"
