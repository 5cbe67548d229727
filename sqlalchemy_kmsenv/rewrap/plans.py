"""What a caller may say about a job: where it runs, and what values were bound to before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSource:
    """How another process gets at the database and the models: for executors that pickle.

    A Keyring cannot leave its process, nor can an Engine. ``metadata`` is an import
    path, ``"package.module:Base"``, or a function of a module; it leads to a
    MetaData, to something that has one, or to a function that returns either, and
    keyrings are attached by then. ``url`` is a database URL, or a function of a
    module that returns an Engine.
    """

    metadata: str | Callable[[], Any]
    url: str | Callable[[], Engine] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerBinding:
    """What the values of a column were bound to when they were sealed, where that has changed.

    The arguments are those of ``Encrypted``; what is None is as the model says now.
    ``keyring`` is the name of an attached keyring. ``scope`` and ``identity`` name
    columns that the table still has.
    """

    name: str | None = None
    """The logical ``"table.column"``, for a table or column that was renamed."""
    identity: Sequence[str] | None = None
    scope: str | Sequence[str] | None = None
    bind: str | None = None
    keyring: str | None = None
