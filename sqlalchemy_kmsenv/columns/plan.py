"""The encrypted columns of a table, found once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table

from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.bound_columns import refuse_changing
from sqlalchemy_kmsenv.columns.encrypted import Encrypted

_ATTRIBUTE = "_sqlalchemy_kmsenv_plan"


class _Plan:
    """Kept as an attribute of the table; a pickled or copied one works its own out again."""

    # Not in Table.info, which Alembic renders into migration files, and not in a dictionary
    # of the module, which would keep every table alive.

    __slots__ = ("bindings", "columns", "table")

    def __init__(self, table: Table | None = None) -> None:
        self.table = table
        self.columns: list[Column[Any]] = []
        self.bindings: dict[str, Binding] = {}

    def __reduce__(self) -> tuple[type[_Plan], tuple[()]]:
        return _Plan, ()


def encrypted_columns(table: Table) -> dict[str, Binding]:
    """The binding of every encrypted column, by column key; empty for most tables.

    Raises:
        ConfigurationError: a column is declared in a way that cannot work.
    """
    plan: _Plan | None = getattr(table, _ATTRIBUTE, None)
    if plan is None or plan.table is not table or len(plan.columns) != len(table.columns):
        plan = _Plan(table)
        plan.bindings = {
            column.key: column.type.binding
            for column in table.columns
            if isinstance(column.type, Encrypted)
        }
        for binding in plan.bindings.values():
            _refuse_changing(binding)
        plan.columns = list(table.columns)
        setattr(table, _ATTRIBUTE, plan)
    return plan.bindings


def _refuse_changing(binding: Binding) -> None:
    # A foreign key may come after the column that it is of, when a binding was worked out already.
    where = f"{binding.column.table.name}.{binding.column.name}"
    for role, bound in (("identity", binding.identity), ("scope", binding.scope)):
        for each in bound:
            refuse_changing(each.column, where, role)


def forget_plan(table: Table) -> None:
    """Look at the columns anew: one was added or replaced, or got a foreign key."""
    setattr(table, _ATTRIBUTE, None)


def concerned(bindings: Mapping[str, Binding]) -> set[str]:
    """The keys of the encrypted columns of a table, and of those that they are bound to."""
    bound = {each.column.key for binding in bindings.values() for each in binding.bound_columns}
    return bound | bindings.keys()
