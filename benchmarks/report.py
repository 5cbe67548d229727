"""The tables: medians, spread, and ratios beside their targets."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Samples

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_TIMES = "Seconds are medians of the rounds, with the fastest and the slowest in brackets."


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return made


def seconds(samples: Samples) -> str:
    scale, unit = next(
        (pair for pair in _UNITS if samples.median >= pair[0]),
        _UNITS[-1],
    )
    low, middle, high = (
        value / scale for value in (min(samples.values), samples.median, max(samples.values))
    )
    return f"{middle:.3g} {unit} [dim]({low:.3g}-{high:.3g})[/]"


def ratio(samples: Samples) -> str:
    return f"{samples.median:.2f} [dim]({min(samples.values):.2f}-{max(samples.values):.2f})[/]"


def at_most(measured: float, target: float | None) -> tuple[str, str]:
    """The cells "target" and "reached" of a number that should be small."""
    return ("", "") if target is None else (f"<= {target:g}", _reached(measured <= target))


def at_least(measured: float, target: float | None) -> tuple[str, str]:
    """Likewise of a number that should be large."""
    return ("", "") if target is None else (f">= {target:g}", _reached(measured >= target))


def show(console: Console, made: Table) -> None:
    console.print(made)
    console.print()


def legend(console: Console) -> None:
    console.print(_TIMES, "Ratios are taken round by round; the median decides.", style="dim")


def _reached(reached: bool) -> str:
    return "[green]yes[/]" if reached else "[bold red]no[/]"
