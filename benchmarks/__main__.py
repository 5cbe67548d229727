"""``python -m benchmarks``: measures and prints; nothing fails for being slow."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import click
import cryptography
import sqlalchemy
from rich.console import Console

from benchmarks import busy, cells, keys, large, report, rewrapping, rows

PARTS = ("cells", "large", "busy", "rows", "keys", "rewrap")
POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432/test"
MARIADB = "mysql+pymysql://root@127.0.0.1:3306/test"


@click.command(context_settings={"show_default": True})
@click.option("--rows", "row_count", type=click.IntRange(min=100), default=50_000, help="Rows.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Rounds, interleaved.")
@click.option("--only", type=click.Choice(PARTS), help="One part instead of all.")
@click.option("--postgresql", "postgresql", metavar="URL", default=POSTGRESQL, help="Database.")
@click.option("--no-postgresql", is_flag=True, help="Measure without it.")
@click.option("--mariadb", metavar="URL", default=MARIADB, help="Database.")
@click.option("--no-mariadb", is_flag=True, help="Measure without it.")
def main(
    *,
    row_count: int,
    rounds: int,
    only: str | None,
    postgresql: str,
    no_postgresql: bool,
    mariadb: str,
    no_mariadb: bool,
) -> None:
    """Measure what encryption costs, and compare with the targets."""
    console = Console(width=None if Console().is_terminal else 180)
    parts = (only,) if only else PARTS
    use_postgresql = bool({"rows", "keys", "rewrap"} & set(parts)) and not no_postgresql
    use_mariadb = bool({"keys", "rewrap"} & set(parts)) and not no_mariadb
    if use_postgresql:
        _check_reachable(postgresql, "postgresql")
    if use_mariadb:
        _check_reachable(mariadb, "mariadb")
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
        servers = [postgresql] * use_postgresql + [mariadb] * use_mariadb
        if "keys" in parts:
            for url in (f"sqlite:///{directory / 'keys.sqlite'}", *servers):
                keys.run(console, rounds, url, directory)
        if "rewrap" in parts:
            for url in (f"sqlite:///{directory / 'rewrap.sqlite'}", *servers):
                rewrapping.run(console, rounds, row_count, url, directory)
            rewrapping.run_memory(console, directory)


def _check_reachable(url: str, name: str) -> None:
    engine = sqlalchemy.create_engine(url)
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError:
        shown = engine.url.render_as_string(hide_password=True)
        raise click.ClickException(
            f"{shown} cannot be reached; give another --{name} URL, or --no-{name}"
        ) from None
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
