"""``kmsenv survey``."""

from __future__ import annotations

import click

from sqlalchemy_kmsenv import rewrap as library
from sqlalchemy_kmsenv.cli.documents import json_option
from sqlalchemy_kmsenv.cli.ending import end_survey
from sqlalchemy_kmsenv.cli.options import Job, job_options, to_option


@click.command()
@job_options
@to_option
@json_option
def survey(*, job: Job, as_json: bool) -> None:
    """Count the envelopes of each column by KMS key and key material.

    Reads headers alone, and calls nothing but DescribeKey. Exits with 0 when every
    envelope is at the target, with 1 when rewrap has something to do.
    """
    with job.started() as started:
        found = library.survey(
            started.engine, started.metadata, columns=started.columns, **started.options
        )
    end_survey(found, as_json=as_json)
