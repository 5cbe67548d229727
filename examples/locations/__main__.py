"""``python -m examples.locations demo``: sealed positions, from the GPX file to the refusal."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from examples.locations.demo import Demo
from examples.locations.samples import TRACKS
from examples.locations.tracks import TrackError, read_track
from sqlalchemy_kmsenv import KmsEnvError, LocalKms
from sqlalchemy_kmsenv.kms import CountingKms, Kms, kms_from_uri

_EXIT_FAILED = 1
_EXIT_WRONG_INPUT = 2


@click.group()
def main() -> None:
    """A location service with encrypted positions."""


@main.command()
@click.option("--database", metavar="URL", help="SQLAlchemy URL; a new SQLite file by default.")
@click.option("--kms", "kms_uri", metavar="URI", help="KMS key; a new local key by default.")
@click.argument("gpx", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def demo(database: str | None, kms_uri: str | None, gpx: tuple[Path, ...]) -> None:
    """Store GPX tracks (the shipped samples by default) and try to misuse them."""
    try:
        _demo(database, kms_uri, gpx or tuple(sorted(TRACKS.glob("*.gpx"))))
    except TrackError as error:
        _end(str(error), _EXIT_WRONG_INPUT)
    except KmsEnvError as error:
        _end(f"{type(error).__name__}: {error}", _EXIT_FAILED)
    except (ArgumentError, NoSuchModuleError) as error:
        _end(f"The database URL is refused: {error}", _EXIT_WRONG_INPUT)
    except ModuleNotFoundError as error:
        _end(f"The driver of that database is not installed: {error}", _EXIT_FAILED)
    except DBAPIError as error:
        _end(f"The database refused or failed: {error.orig}", _EXIT_FAILED)


def _demo(database: str | None, kms_uri: str | None, paths: tuple[Path, ...]) -> None:
    # All files first: a wrong one then leaves not even a table behind.
    tracks = [read_track(path) for path in paths]
    console = Console(highlight=False)
    place: Path | None = None
    if database is None or kms_uri is None:
        place = Path(tempfile.mkdtemp(prefix="kmsenv-locations-"))
        console.print(Text(f"What is not given is made in {place}", overflow="fold"))
    engine = create_engine(database or f"sqlite:///{place}/locations.db")
    try:
        Demo(console, engine, CountingKms(_kms(kms_uri, place))).run(tracks)
    finally:
        engine.dispose()


def _kms(uri: str | None, place: Path | None) -> Kms:
    if uri is not None:
        return kms_from_uri(uri)
    # Beside the database only because both are thrown away: see LocalKms.
    return LocalKms.create(f"{place}/key.json")


def _end(words: str, code: int) -> None:
    Console(stderr=True, highlight=False).print(Text(words, style="red", overflow="fold"))
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="python -m examples.locations")
