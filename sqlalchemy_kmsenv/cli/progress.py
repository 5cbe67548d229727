"""How far a job is: a bar on a terminal, lines otherwise; on standard error."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from sqlalchemy_kmsenv.rewrap import Progress

OnProgress = Callable[[Progress], None]

_LINE_EVERY_SECONDS = 5.0


@contextmanager
def shown_progress(
    console: Console | None = None, write: Callable[[str], None] | None = None
) -> Iterator[OnProgress]:
    """What to call with each ``Progress``: a bar on ``console``, or lines that ``write`` gets."""
    console = console or Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        text = TextColumn("{task.description}", markup=False)
        state = TextColumn("{task.fields[state]}", markup=False)
        with Bars(text, BarColumn(), state, console=console) as bars:
            yield _Bars(bars)
    else:
        lines = Lines(write or _write_with_time)
        yield lines
        lines.last()


def _write_with_time(line: str) -> None:
    # Nobody else adds it: what a scheduler keeps of a job is often its output alone.
    now = datetime.datetime.now(datetime.UTC)
    click.echo(f"{now:%Y-%m-%dT%H:%M:%SZ} {line}", err=True)


class Lines:
    """Writes a line for a column every few seconds, and a last one."""

    def __init__(
        self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._written_at = clock()
        self._pending: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        """Take note, and write if it is time."""
        if self._pending is not None and self._pending.column != progress.column:
            self.last()
        self._pending = progress
        if self._clock() - self._written_at >= _LINE_EVERY_SECONDS:
            self.last()

    def last(self) -> None:
        """Write what has not been written yet."""
        if self._pending is not None:
            self._write(f"{self._pending.column}: {state_of(self._pending)}")
            self._written_at = self._clock()
            self._pending = None


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        task = self._tasks.get(progress.column)
        if task is None:
            task = self._bars.add_task(progress.column, total=progress.total, state="")
            self._tasks[progress.column] = task
        done = progress.counts.rows
        # Rows that were inserted since they were counted are served, too.
        total = None if progress.total is None else max(progress.total, done)
        self._bars.update(task, completed=done, total=total, state=state_of(progress))


def state_of(progress: Progress) -> str:
    """Rows, rate and time left, in words."""
    done, total = progress.counts.rows, progress.total
    rate = progress.rows_this_run / progress.seconds if progress.seconds > 0 else 0.0
    words = [f"{done:,} rows" if total is None else f"{done:,} of {max(total, done):,} rows"]
    words.append(f"{rate:,.0f}/s")
    if total is not None and rate > 0 and total > done:
        words.append(f"{_clock_time((total - done) / rate)} left")
    bad = progress.counts.failed + progress.counts.not_envelopes
    if bad:
        words.append(f"{bad:,} failed")
    return ", ".join(words)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
