"""What a command is refused for, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from sqlalchemy_kmsenv.errors import ConfigurationError, KmsEnvError

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
    except ConfigurationError as error:
        raise Refusal(str(error)) from error
    except KmsEnvError as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from error
