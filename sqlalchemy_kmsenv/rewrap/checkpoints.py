"""Where a job keeps how far it is: a file, or a table of the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileCheckpoint:
    """A JSON file, replaced as a whole after every page (every second with an executor)."""

    path: str | Path


@dataclass(frozen=True, slots=True)
class TableCheckpoint:
    """Rows of a table, which is made where it is missing; written in the page's transaction."""

    job: str = "default"
    """Names the job where several use the table."""
    table: str = "kmsenv_checkpoints"
    schema: str | None = None
