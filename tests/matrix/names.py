"""What columns are called: in the database, in their table, and as attributes of a class."""

from __future__ import annotations

from collections.abc import Callable

_CROSSED = (("text", "name"), ("more", "extra"), ("tenant", "region"), ("day", "level"),
            ("code", "slot"), ("id", "id2"))  # fmt: skip
_OTHER = {a: b for pair in _CROSSED for a, b in (pair, pair[::-1])}
_KEPT = ("id", "id2", "id3", "name", "c_name")
"""Statements of the matrix write these as keys of columns and as attributes alike."""


def _same(name: str) -> tuple[str, str]:
    return name, name


def _keyed(name: str) -> tuple[str, str]:
    return f"db_{name}", name


def _crossed(name: str) -> tuple[str, str]:
    own, bare = ("c_", name[2:]) if name.startswith("c_") else ("", name)
    return own + _OTHER.get(bare, bare), name


def _attribute(name: str) -> tuple[str, str]:
    called = name if name in _KEPT else f"{name}_col"
    return called, called


NAMES: dict[str, Callable[[str], tuple[str, str]]] = {
    "same": _same,
    "keyed": _keyed,
    "crossed": _crossed,
    "attribute": _attribute,
}
"""By value of the axis: the column of an attribute in the database, and its key in the table."""


def key_of(naming: str, name: str) -> str:
    """The key of an attribute's column in its table."""
    return NAMES[naming](name)[1]
