"""``python -m benchmarks``: measures and prints; nothing fails for being slow."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import click
import cryptography
import sqlalchemy
from rich.console import Console

from benchmarks import busy, cells, large, report, rows

PARTS = ("cells", "large", "busy", "rows")
POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


@click.command(context_settings={"show_default": True})
@click.option("--rows", "row_count", type=click.IntRange(min=100), default=50_000, help="Rows.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Rounds, interleaved.")
@click.option("--only", type=click.Choice(PARTS), help="One part instead of all.")
@click.option("--postgresql", "postgresql", metavar="URL", default=POSTGRESQL, help="Database.")
@click.option("--no-postgresql", is_flag=True, help="Measure rows on SQLite alone.")
def main(
    row_count: int,
    rounds: int,
    only: str | None,
    postgresql: str,
    no_postgresql: bool,
) -> None:
    """Measure what encryption costs, and compare with the targets."""
    console = Console(width=None if Console().is_terminal else 180)
    parts = (only,) if only else PARTS
    use_postgresql = "rows" in parts and not no_postgresql
    if use_postgresql:
        _check_reachable(postgresql)
    console.print(
        f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__},"
        f" cryptography {cryptography.__version__}; {rounds} rounds"
    )
    report.legend(console)
    console.print()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if "cells" in parts:
            cells.run(console, rounds, directory)
        if "large" in parts:
            large.run(console, rounds)
        if "busy" in parts:
            busy.run(console, rounds, directory)
        if "rows" in parts:
            url = f"sqlite:///{directory / 'rows.sqlite'}"
            rows.run(console, rounds, row_count, url, directory)
        if use_postgresql:
            rows.run(console, rounds, row_count, postgresql, directory)


def _check_reachable(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError:
        shown = engine.url.render_as_string(hide_password=True)
        raise click.ClickException(
            f"{shown} cannot be reached; give another --postgresql URL, or --no-postgresql"
        ) from None
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
