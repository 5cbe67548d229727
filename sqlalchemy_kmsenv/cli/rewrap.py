"""``kmsenv rewrap``."""

from __future__ import annotations

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


@click.command()
@job_options
@to_option
@click.option(
    "--verify-material", is_flag=True,
    help="Ask the KMS about each data key whose header names the target, too: headers can be"
    " forged. Do this before a KMS key is disabled.",
)  # fmt: skip
@kms_options
@checkpoint_options
@dry_run_option
@json_option
def rewrap(
    *,
    job: Job,
    kms: KmsOptions,
    checkpoint: CheckpointFile,
    dry_run: bool,
    verify_material: bool,
    as_json: bool,
) -> None:
    """Bring every envelope to the newest material of its keyring's KMS key (ReEncrypt).

    Values are not opened: the role needs kms:ReEncryptFrom and kms:ReEncryptTo. Exits
    with 0 when every row is at the target.
    """
    with job.started() as started:
        more = ["verify-material"] if verify_material else []
        path = None if dry_run else checkpoint.settled("rewrap", job.database, job.models, more)
        report = library.rewrap(
            started.engine,
            started.metadata,
            columns=started.columns,
            dry_run=dry_run,
            verify_material=verify_material,
            checkpoint=path,
            **kms,
            **started.options,
        )
    end_report(report, checkpoint=path, as_json=as_json)
