"""What one execution of an INSERT or UPDATE carries along, from event to event.

On a copy of the statement that is made for it, since one execution may run inside of
another one on the same connection. Other listeners' generative changes keep it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Column, Insert, Update

from sqlalchemy_kmsenv.columns.dml import copy_of
from sqlalchemy_kmsenv.columns.ledger import LateRows

S = TypeVar("S", Insert, Update)

_ATTRIBUTE = "_sqlalchemy_kmsenv_execution"


Given = Mapping[str, tuple[str, Sequence[Any]]]
"""By the name of a parameter that was sealed: the name and the values it would have had."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What was made of the statement."""

    late: LateRows | None = None
    """The rows that it leaves to be sealed."""
    given: Given = field(default_factory=dict, repr=False)
    defaulted: Sequence[Column[Any]] = ()
    """The columns whose defaults were evaluated for it."""
    hides_keys: bool = False
    """Whether it returns keys that are the library's affair alone."""
    drops_rows: bool = False
    """Whether the rows that it returns are told as defaults alone."""


def marked(
    statement: S,
    late: LateRows | None = None,
    given: Given | None = None,
    defaulted: Sequence[Column[Any]] = (),
    *,
    hides_keys: bool = False,
    drops_rows: bool = False,
) -> S:
    """A copy that is known to be sealed, with what later events of its execution need."""
    copy = copy_of(statement)
    setattr(copy, _ATTRIBUTE, Execution(late, given or {}, defaulted, hides_keys, drops_rows))
    return copy


def was_sealed(statement: Any) -> bool:
    """Whether a statement went through the sealing of this execution."""
    return hasattr(statement, _ATTRIBUTE)


def execution_of(statement: Any) -> Execution | None:
    """What was made of the statement of this execution; None where nothing had to be."""
    execution: Execution | None = getattr(statement, _ATTRIBUTE, None)
    return execution


def late_rows_of(statement: Any) -> LateRows | None:
    """The rows that this execution leaves to be sealed."""
    execution = execution_of(statement)
    return None if execution is None else execution.late
