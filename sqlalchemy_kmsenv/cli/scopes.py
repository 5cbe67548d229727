"""Scope values that are named on the command line."""

from __future__ import annotations

from collections.abc import Iterable

import click

from sqlalchemy_kmsenv.cli.refusals import Refusal

scope_option = click.option(
    "--scope-value",
    "scope_values",
    metavar="COLUMN=VALUE",
    multiple=True,
    help="Only this value of a scope column, as in device_id=bus-7; repeatable.",
)


def parse_scope_values(given: Iterable[str]) -> dict[str, list[str]]:
    """The values of each scope column.

    Raises:
        Refusal: a text is not like ``COLUMN=VALUE``.
    """
    values: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Refusal(f"--scope-value {text!r} is not like COLUMN=VALUE")
        values.setdefault(name, []).append(value)
    return values
