"""Wrapped data keys that the KMS has just refused: it is not asked again at each read."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import WrongCellError


class Refusals:
    """What did not unwrap, for a short time and up to a number.

    Only what the KMS says of the data key itself is kept. A caller who is denied, and a
    service that is away, may be answered otherwise at the next call.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Callable[[], WrongCellError]]] = {}

    def check(self, asked: Hashable) -> None:
        """Return unless this was refused a short time ago.

        Raises:
            WrongCellError: it was; of the same class, and with the same words.
        """
        kept = self._kept.get(asked)
        if kept is None:
            return
        until, refusal = kept
        if self._clock() < until:
            raise refusal()
        self._kept.pop(asked, None)

    def note(self, asked: Hashable, error: WrongCellError) -> None:
        """Keep a refusal: a recipe for the error, since an exception holds its frames."""
        kind, message, request_id = type(error), str(error), error.request_id

        def refusal() -> WrongCellError:
            # Not by its constructor: that of an error of a Kms's own may take anything.
            again: WrongCellError = kind.__new__(kind, message)
            again.request_id = request_id
            return again

        while len(self._kept) >= defaults.REFUSALS_MAX_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[asked] = (self._clock() + defaults.REFUSALS_KEPT_SECONDS, refusal)

    def clear(self) -> None:
        """Ask again about everything."""
        self._kept.clear()
