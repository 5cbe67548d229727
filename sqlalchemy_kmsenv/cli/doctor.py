"""``kmsenv doctor``: is everything there before the first value is written?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table

from sqlalchemy_kmsenv.access import Check, Role, examine
from sqlalchemy_kmsenv.access.doctor import USUAL_ROLES
from sqlalchemy_kmsenv.cli.database import Database, database_option
from sqlalchemy_kmsenv.cli.refusals import EXIT_DONE, EXIT_FAILED, in_words
from sqlalchemy_kmsenv.cli.scopes import parse_scope_values, scope_option
from sqlalchemy_kmsenv.cli.subject import Models, models_options


@click.command(short_help="Ask everything that can be asked before production.")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    help="What the credentials at hand are for; repeatable. Writer and reader by default.",
)
@scope_option
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
@database_option
@models_options
def doctor(
    *,
    models: Models,
    database: Database,
    roles: tuple[str, ...],
    scope_values: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask everything that can be asked before production, and answer yes or no.

    Nothing is written, made, unwrapped or opened: permissions are asked for by DryRun.
    Exit code: 0 all yes, 1 any no, 2 not asked because of the options or the
    configuration.
    """
    with in_words():
        metadata = models()
        with database.engine(models, metadata) as engine:
            checks = list(
                examine(
                    engine,
                    models.bindings(metadata).values(),
                    roles=[Role(role) for role in roles] or USUAL_ROLES,
                    scope_values=parse_scope_values(scope_values),
                )
            )
    passed = all(check.passed for check in checks)
    if as_json:
        answers = [check.to_dict() for check in checks]
        click.echo(json.dumps({"passed": passed, "checks": answers}, indent=2))
    else:
        _show(checks)
    raise SystemExit(EXIT_DONE if passed else EXIT_FAILED)


def _show(checks: Sequence[Check]) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_table(checks))
    else:
        for check in checks:
            # Tabs: the fields hold blanks, and scripts cut lines at something.
            click.echo("\t".join((check.answer, check.subject, check.question, check.detail)))
    missing = sum(not check.passed for check in checks)
    click.echo(f"{len(checks)} asked, {missing} answered no", err=True)


def _table(checks: Iterable[Check]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "what", "question", "because"):
        table.add_column(title, overflow="fold")
    for check in checks:
        colour = "green" if check.passed else "bold red"
        table.add_row(
            f"[{colour}]{check.answer}[/]",
            *map(_plain, (check.subject, check.question)),
            _plain(check.detail),
        )
    return table


def _plain(text: str) -> str:
    # Brackets in names and messages are no markup.
    return text.replace("[", "\\[")
