"""What one execution of an INSERT or UPDATE carries along, from event to event.

On a copy of the statement that is made for it, since one execution may run inside of
another one on the same connection. Other listeners' generative changes keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Insert, Update

from sqlalchemy_kmsenv.columns.dml import copy_of
from sqlalchemy_kmsenv.columns.ledger import LateRows

S = TypeVar("S", Insert, Update)

_ATTRIBUTE = "_sqlalchemy_kmsenv_execution"


@dataclass(frozen=True, slots=True)
class _Execution:
    late: LateRows | None


def marked(statement: S, late: LateRows | None = None) -> S:
    """A copy that is known to be sealed; ``late`` are the rows that it leaves for later."""
    copy = copy_of(statement)
    setattr(copy, _ATTRIBUTE, _Execution(late))
    return copy


def was_sealed(statement: Any) -> bool:
    """Whether a statement went through the sealing of this execution."""
    return hasattr(statement, _ATTRIBUTE)


def late_rows_of(statement: Any) -> LateRows | None:
    """The rows that this execution leaves to be sealed."""
    execution: _Execution | None = getattr(statement, _ATTRIBUTE, None)
    return None if execution is None else execution.late
