"""``--json``: one document on standard output, and nothing else there."""

from __future__ import annotations

import json
from typing import Any

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


def print_document(document: dict[str, Any]) -> None:
    """Write it."""
    click.echo(json.dumps(document, indent=2))
