"""``kmsenv reencrypt``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from sqlalchemy_kmsenv import rewrap as library
from sqlalchemy_kmsenv.cli.checkpoint_files import CheckpointFile
from sqlalchemy_kmsenv.cli.documents import json_option
from sqlalchemy_kmsenv.cli.ending import end_report
from sqlalchemy_kmsenv.cli.options import (
    Job,
    KmsOptions,
    checkpoint_options,
    dry_run_option,
    job_options,
    kms_options,
    to_option,
)
from sqlalchemy_kmsenv.columns.binding import Bind, Scope
from sqlalchemy_kmsenv.rewrap import FormerBinding
from sqlalchemy_kmsenv.rewrap.desks import imported

_REVOKE = (
    "Whoever has these data keys can still make values that open, until the keyring of each"
    " process refuses them. Add to it: "
)
_SCOPES_OF_WORDS: dict[str, Scope] = {"column": "column", "row": "row"}


def _former_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What values were bound to; the command takes it as ``former``."""

    @click.option(
        "--former-name", metavar="TABLE.COLUMN", help="The logical name, before a rename."
    )
    @click.option(
        "--former-identity", metavar="COLUMN", multiple=True,
        help="A column that identified the row; repeatable, in order.",
    )  # fmt: skip
    @click.option(
        "--former-scope", metavar="COLUMN", multiple=True,
        help='A scope column, repeatable in order; or "column", or "row".',
    )  # fmt: skip
    @click.option("--former-bind", type=click.Choice(["row", "column"]), help="The former bind.")
    @click.option("--former-keyring", metavar="NAME", help="The former keyring, by its name.")
    @functools.wraps(command)
    def with_former(
        *,
        former_name: str | None,
        former_identity: tuple[str, ...],
        former_scope: tuple[str, ...],
        former_bind: Bind | None,
        former_keyring: str | None,
        **others: Any,
    ) -> Any:
        former = FormerBinding(
            name=former_name,
            identity=former_identity or None,
            scope=_scope(former_scope),
            bind=former_bind,
            keyring=former_keyring,
        )
        given = former != FormerBinding()
        return command(former=former if given else None, **others)

    return with_former


@click.command()
@job_options
@to_option
@_former_options
@click.option(
    "--data-key", "data_keys", metavar="COMMITMENT", multiple=True,
    help="Only values under this data key, by its commitment as inspect shows it; repeatable.",
)  # fmt: skip
@click.option(
    "--convert", metavar="MODULE:FUNCTION",
    help="Make values of the column's type of those that have another, and of no others.",
)  # fmt: skip
@kms_options
@checkpoint_options
@dry_run_option
@json_option
def reencrypt(
    *,
    job: Job,
    former: FormerBinding | None,
    data_keys: tuple[str, ...],
    convert: str | None,
    kms: KmsOptions,
    checkpoint: CheckpointFile,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Open values and seal them anew, under new data keys or for a changed binding.

    For a data key that may have leaked (--data-key), and for values that were sealed
    under another name, identity, scope or keyring (--former-...). Without either, every
    value is encrypted anew, each time. The role needs kms:Decrypt and
    kms:GenerateDataKey.
    """
    with job.started() as started:
        more = [
            None if former is None else asdict(former),
            sorted(data_keys),
            *([convert] if convert else []),
        ]
        path = None if dry_run else checkpoint.settled("reencrypt", job.database, job.models, more)
        report = library.reencrypt(
            started.engine,
            started.metadata,
            columns=started.columns,
            former=former,
            data_keys=data_keys or None,
            convert=imported(convert) if convert else None,
            dry_run=dry_run,
            checkpoint=path,
            **kms,
            **started.options,
        )
    if report.ok and data_keys and not dry_run:
        # On standard error: the document alone is on the other.
        click.echo(
            f"{_REVOKE}Keyring(..., revoked={sorted(map(str.lower, data_keys))!r})", err=True
        )
    end_report(report, checkpoint=path, as_json=as_json)


def _scope(given: tuple[str, ...]) -> Scope | None:
    if len(given) == 1:
        return _SCOPES_OF_WORDS.get(given[0], given)
    return given or None
