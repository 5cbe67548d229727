"""A survey from what its pages counted."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.envelope import UNKNOWN_MATERIAL
from sqlalchemy_kmsenv.rewrap.progress import ColumnState
from sqlalchemy_kmsenv.rewrap.reports import ColumnSurvey, KeyCount, Survey
from sqlalchemy_kmsenv.rewrap.running import Run
from sqlalchemy_kmsenv.rewrap.targets import binding_named


def surveyed(metadata: MetaData, run: Run) -> Survey:
    """What a run of the kind ``survey`` found.

    Raises:
        KeyServiceError: the key service does not say its keys.
    """
    columns = tuple(_of_column(metadata, column) for column in run.columns)
    return Survey(columns, stopped=run.stopped, seconds=run.seconds)


def _of_column(metadata: MetaData, column: ColumnState) -> ColumnSurvey:
    target = column.job.target
    arns = keyring_of(binding_named(metadata, column.job.column)).key_arns()
    tally: Counter[tuple[bytes, bytes]] = Counter()
    for partition in column.partitions.values():
        tally.update(partition.tally or {})
    keys = [
        KeyCount(
            fingerprint=fingerprint.hex(),
            key_arn=arns.get(fingerprint),
            material_hint=None if hint == UNKNOWN_MATERIAL else hint.hex(),
            envelopes=number,
            at_target=target.has(fingerprint, hint),
        )
        for (fingerprint, hint), number in tally.items()
    ]
    keys.sort(key=lambda each: (not each.at_target, -each.envelopes, each.fingerprint))
    report, counts = column.report(), column.counts
    return ColumnSurvey(
        column=column.job.column,
        target=target.report(),
        keys=tuple(keys),
        null=counts.null,
        not_envelopes=counts.not_envelopes,
        failures=report.failures,
    )
