"""``execution_options(kmsenv_on_refusal="mark")``: one bad value does not take the page away.

A type's result processor is shared by all statements, so the result of one that asks for
marks gets processors of its own, before any row of it is read. Uses the private ``_metadata``
of results, what is in it, and ``_reset_memoizations``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_marking.py`` holds it to that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import CursorResult
from sqlalchemy.engine.cursor import CursorResultMetaData

from sqlalchemy_kmsenv.columns.refused import Refused
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyServiceDeniedError,
    KeyStateError,
    WrongCellError,
)

OPTION = "kmsenv_on_refusal"
_CHOICES = ("raise", "mark")
_TWIN = "sqlalchemy_kmsenv_marking"
_MARKED = (
    EnvelopeError, WrongCellError, KeyServiceDeniedError, KeyStateError, ConfigurationError,
)  # fmt: skip
"""What one stored value is to blame for, or its own data key. Not a KMS that is away: a page of
marks would look like damage, and a retry helps."""

Opener = Callable[[Any], Any]


def with_marking(opener: Opener) -> Opener:
    """The opener itself, that knows its twin: one that gives a ``Refused`` where it raises."""

    def open_or_mark(packed: Any) -> Any:
        try:
            return opener(packed)
        except _MARKED as error:
            # An error about no cell is about the program, such as a keyring that is missing.
            if error.cell is None:
                raise
            return Refused(error)

    vars(opener)[_TWIN] = open_or_mark
    return opener


def check_option(options: Mapping[str, Any]) -> None:
    """Look at what a statement, session, connection or engine asks for.

    Raises:
        ConfigurationError: neither ``"raise"`` nor ``"mark"``.
    """
    given = options.get(OPTION, "raise")
    if given not in _CHOICES:
        raise ConfigurationError(
            f'execution_options({OPTION}={given!r}): "raise", which is the default, or "mark"'
        )


def mark_result(result: Any, options: Mapping[str, Any]) -> None:
    """Have the rows of a result marked, if that was asked for; before any of them is read."""
    if options.get(OPTION) != "mark" or not isinstance(result, CursorResult):
        return
    known: Any = result._metadata
    # In 2.0, the rows of an INSERT with sentinels are cut to size where they are made below.
    if not isinstance(known, CursorResultMetaData) or result.context._num_sentinel_cols:
        return
    result._metadata = known._make_new_metadata(
        unpickled=known._unpickled,
        processors=[getattr(each, _TWIN, each) for each in known._processors],
        keys=known._keys,
        keymap=known._keymap,
        tuplefilter=known._tuplefilter,
        translated_indexes=known._translated_indexes,
        safe_for_cache=known._safe_for_cache,
        keymap_by_result_column_idx=known._keymap_by_result_column_idx,
    )
    # It has made up its mind how to make rows.
    result._reset_memoizations()
