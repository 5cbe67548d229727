"""Where a job of the command line keeps how far it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sqlalchemy_kmsenv.cli.database import Database, shown_url
from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.cli.subject import Models

_DIGEST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """``--checkpoint`` and ``--resume``."""

    given: Path | None
    resume: bool

    def settled(
        self, kind: str, database: Database, models: Models, more: Sequence[Any] = ()
    ) -> Path:
        """The path to use; by default one that is named after the job.

        Raises:
            Refusal: it has a checkpoint already, and ``--resume`` was not given; or it
                is in no directory.
        """
        path = self.given or Path(_default_name(kind, database, models, more))
        if not path.parent.is_dir():
            raise Refusal(f"--checkpoint {path}: there is no directory {path.parent}")
        if path.exists() and not self.resume:
            raise Refusal(
                f"{path} is the checkpoint of a {kind} that did not get to its end. Go on with"
                " --resume, or remove the file to begin anew"
            )
        if self.resume and not path.exists():
            click.echo(f"There is no checkpoint {path}: the job begins at the first row.", err=True)
        return path


def _default_name(kind: str, database: Database, models: Models, more: Sequence[Any]) -> str:
    url = database.url
    keys = models.keys
    job = [
        kind,
        shown_url(url),
        models.path,
        sorted(models.columns),
        [[named.name, named.uri] for named in (*keys.keyrings, *keys.to)],
        *more,
    ]
    digest = hashlib.sha256(json.dumps(job).encode()).hexdigest()[:_DIGEST_DIGITS]
    name = re.sub(r"\W+", "-", Path(url.database or "").stem).strip("-") or "database"
    return f"kmsenv-{kind}-{name}-{digest}.json"
