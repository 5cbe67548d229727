"""What a command is refused for, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv.errors import ConfigurationError, KmsEnvError
from sqlalchemy_kmsenv.printable import printable
from sqlalchemy_kmsenv.rewrap import PreflightError

EXIT_DONE = 0
EXIT_FAILED = 1
"""Some row is not as it should be, or the job did not get to its end."""
EXIT_REFUSED = 2
"""Usage or configuration: nothing was done. Click's own code for wrong options, too."""


class Refusal(click.ClickException):
    """The command cannot begin: an option or the configuration is wrong."""

    exit_code = EXIT_REFUSED


@contextmanager
def in_words() -> Iterator[None]:
    """Let errors of this library end the command with their words instead of a traceback."""
    try:
        yield
    except (ConfigurationError, PreflightError) as error:
        raise Refusal(str(error)) from error
    except KmsEnvError as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
    except DBAPIError as error:
        raise click.ClickException(f"the database failed: {driver_words(error)}") from error


def driver_words(error: DBAPIError) -> str:
    """The first line of what the driver says: the rest may hold the statement's parameters."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return printable(lines[0])
