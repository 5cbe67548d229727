"""A type as the Python text of a migration file; it names no key and no keyring object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.columns.encrypted import Encrypted

_DIALECTS = "sqlalchemy.dialects."


def render_encrypted(encrypted: Encrypted[Any]) -> str:
    """``Encrypted(...)`` with the arguments that differ from their defaults.

    The inner type is rendered as ``sa.String(length=40)``, since migration files
    import SQLAlchemy under that name.
    """
    arguments = [render_inner(encrypted.inner)]
    defaults = {"keyring": "default", "scope": "column", "name": None, "identity": None,
                "bind": "row", "pad_to": None, "check": False, "same_rows": False}  # fmt: skip
    for name, default in defaults.items():
        value: Any = getattr(encrypted, name)
        if value != default:
            shown = list(value) if isinstance(value, tuple) else value
            arguments.append(f"{name}={shown!r}")
    return f"Encrypted({', '.join(arguments)})"


def render_inner(inner: TypeEngine[Any]) -> str:
    """The inner type behind the prefix of the module that a migration file has it from."""
    module = type(inner).__module__
    if module.startswith(_DIALECTS):
        return f"{module.removeprefix(_DIALECTS).partition('.')[0]}.{inner!r}"
    if module.startswith("sqlalchemy."):
        return f"sa.{inner!r}"
    return f"{module}.{inner!r}"


def import_of_inner(inner: TypeEngine[Any]) -> set[str]:
    """The import that ``render_inner`` needs beyond ``import sqlalchemy as sa``; none, or one."""
    module = type(inner).__module__
    if module.startswith(_DIALECTS):
        return {
            f"from sqlalchemy.dialects import {module.removeprefix(_DIALECTS).partition('.')[0]}"
        }
    return set() if module.startswith("sqlalchemy.") else {f"import {module}"}
