"""The axes of models, which of their values go together, and which statements go with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tests.matrix.covering import Choice
from tests.matrix.kinds import IDENTITIES, INNER, KEYS, SCOPES
from tests.matrix.names import NAMES

AXES: dict[str, tuple[str, ...]] = {
    "key": tuple(KEYS),
    "scope": tuple(SCOPES),
    "bind": ("row", "column"),
    "identity": tuple(IDENTITIES),
    "layout": ("first", "middle", "last", "three"),
    "values": (
        "nullable", "required", "default", "callable", "computed", "onupdate",
        "onupdate_computed", "digest", "none",
    ),
    "inherit": (
        "no", "single_parent", "single_child", "single_both", "joined_parent", "joined_child",
        "joined_both", "joined_same", "concrete_parent", "concrete_child", "concrete_both",
    ),
    "schema": ("no", "schema", "translate"),
    "inner": tuple(INNER),
    "given": ("given", "defaults", "key_defaults", "server_defaults"),
    "names": tuple(NAMES),
}  # fmt: skip

BASE: Choice = {axis: values[0] for axis, values in AXES.items()}


@dataclass(frozen=True, slots=True)
class Design:
    """A model: one value an axis."""

    key: str
    scope: str
    bind: str
    identity: str
    layout: str
    values: str
    inherit: str
    schema: str
    inner: str
    given: str
    names: str

    def __str__(self) -> str:
        """What differs from the first value of each axis."""
        other = [f"{k}={v}" for k, v in asdict(self).items() if v != BASE[k]]
        return " ".join(other) or "-"


def may_be(row: Choice) -> bool:
    """Whether these values can be declared together at all."""
    if row["bind"] == "column" and (row["identity"] != "key" or row["scope"] == "row"):
        return False
    if row["key"] == "server" and row["given"] == "key_defaults":
        return False
    # A column of a child that shares the parent's table is NULL in the parent's rows.
    return row["values"] != "required" or row["inherit"] not in ("single_child", "single_both")
