"""Text of other people's making, as messages, logs and terminals may show it."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with each character escaped that is not printable.

    A key of a row may hold line ends and escape sequences, which would forge lines of a
    log and give orders to a terminal; Unicode's marks of direction are not printable either.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
