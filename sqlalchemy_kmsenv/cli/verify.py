"""``kmsenv verify``."""

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
    job_options,
    kms_options,
)


@click.command()
@job_options
@kms_options
@checkpoint_options
@json_option
def verify(*, job: Job, kms: KmsOptions, checkpoint: CheckpointFile, as_json: bool) -> None:
    """Open every value, and name the rows whose values do not open.

    Values are never printed. The role needs kms:Decrypt. Exits with 0 when all open.
    """
    with job.started() as started:
        path = checkpoint.settled("verify", job.database, job.models)
        report = library.verify(
            started.engine,
            started.metadata,
            columns=started.columns,
            checkpoint=path,
            **kms,
            **started.options,
        )
    end_report(report, checkpoint=path, as_json=as_json)
