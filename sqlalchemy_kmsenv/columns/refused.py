"""What stands in a result for a stored value that did not open, where marks were asked for."""

from __future__ import annotations

from typing import Any

from sqlalchemy_kmsenv.cell import Cell
from sqlalchemy_kmsenv.errors import InvalidValueError, KmsEnvError


class Refused:
    """A stored value that did not open; ``error`` is what reading it would have raised.

    Comes out of statements that were executed with
    ``execution_options(kmsenv_on_refusal="mark")``. False as a bool, equal to itself
    alone, and never written: a flush leaves it where it is, and refuses it as a value.
    """

    __slots__ = ("error",)

    def __init__(self, error: KmsEnvError) -> None:
        # The frames and causes of the refusal would live as long as the object that is marked.
        error.__cause__ = error.__context__ = None
        self.error = error.with_traceback(None)

    @property
    def cell(self) -> Cell | None:
        """Where the value stands."""
        return self.error.cell

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<Refused: {self.error}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the error's own constructor: a Kms may raise errors of its own.
        return _restored, (type(self.error), str(self.error), self.error.cell)


def refused_as_value(where: str) -> InvalidValueError:
    """The error of a write: a mark is no value, and there is nothing to seal."""
    return InvalidValueError(
        f"{where}: the value is a Refused, the mark of a stored value that did not open when it"
        " was read; nothing was written. Give a value or None to replace it, or leave it out to"
        " keep what is stored"
    )


def _restored(kind: type[KmsEnvError], message: str, cell: Cell | None) -> Refused:
    error = kind.__new__(kind, message)
    error.cell = cell
    return Refused(error)
