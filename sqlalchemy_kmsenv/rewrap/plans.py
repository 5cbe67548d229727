"""What a caller may say about a job: where it runs, and what values were bound to before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Engine

from sqlalchemy_kmsenv.columns.binding import Bind, Keys, Scope
from sqlalchemy_kmsenv.envelope import COMMITMENT_BYTES
from sqlalchemy_kmsenv.errors import ConfigurationError


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
    identity: Keys | None = None
    scope: Scope | None = None
    bind: Bind | None = None
    keyring: str | None = None

    def settled(self) -> FormerBinding:
        """The same with tuples in the place of lists, so that it can be compared and sent."""
        scope = self.scope
        return replace(
            self,
            identity=None if self.identity is None else tuple(self.identity),
            scope=scope if scope is None or isinstance(scope, str) else tuple(scope),
        )


def commitments(given: Iterable[str]) -> frozenset[bytes]:
    """Commitments from their hexadecimal digits.

    Raises:
        ConfigurationError: one is none.
    """
    if isinstance(given, str):
        raise ConfigurationError("data_keys=... takes a list of commitments")
    try:
        found = frozenset(map(bytes.fromhex, given))
    except (TypeError, ValueError):
        found = frozenset({b""})
    if any(len(each) != COMMITMENT_BYTES for each in found):
        raise ConfigurationError(
            f"data_keys=... takes commitments of {2 * COMMITMENT_BYTES} hexadecimal digits each, as"
            " the headers of envelopes have them"
        )
    return found
