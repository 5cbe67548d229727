"""A command in this process, with its two streams apart on every supported click."""

import inspect
from typing import Any

from click.testing import CliRunner, Result

from sqlalchemy_kmsenv.cli.main import main

# Since 8.2 they are apart without asking, and cannot be asked for.
_APART: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)


def run_apart(*arguments: str) -> Result:
    """The result of ``kmsenv`` with these arguments: ``stdout`` and ``stderr``."""
    return CliRunner(**_APART).invoke(main, list(arguments))
