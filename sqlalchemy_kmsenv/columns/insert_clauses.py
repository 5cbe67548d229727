"""What an INSERT says beside its values: where they come from, and what it returns.

Reads private attributes: ``_select_names``, ``_prefixes``, ``_inline``, ``_returning``,
``_supplemental_returning``, ``_return_defaults`` and ``_sort_by_parameter_order`` of ``Insert``,
and ``_insert_sentinel`` of ``Column``, seen on 2.0.36 and 2.1.9
(``tests/columns/test_dml.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Insert, Select, Table
from sqlalchemy.sql import visitors

_BATCH_PREFIX, _BATCH_LENGTH = "_alembic_tmp_", 50
"""How Alembic's batch mode names the table that it copies another to; seen in 1.13 and 1.20."""


def prefixes(statement: Insert) -> list[str]:
    """What the INSERT says more of itself, such as IGNORE or OR REPLACE."""
    return [str(prefix) for prefix, _ in statement._prefixes]


def returns_rows(statement: Any, *, explicitly: bool = False) -> bool:
    """Whether it has RETURNING, of its own or for defaults; ``explicitly`` of its own alone."""
    own = bool(statement._returning or statement._supplemental_returning)
    return own or (bool(statement._return_defaults) and not explicitly)


def is_sorted(statement: Insert) -> bool:
    """Whether what it returns comes in the order of its parameter sets."""
    return bool(statement._sort_by_parameter_order)


def marks_key_as_sentinel(table: Table) -> bool:
    """Whether ``insert_sentinel=True`` stands on the key that the database makes."""
    column = table.autoincrement_column
    return column is not None and bool(column._insert_sentinel)


def has_return_defaults(statement: Insert) -> bool:
    """Whether ``return_defaults()`` was called, as the ORM does in a bulk INSERT."""
    return bool(statement._return_defaults)


def is_inline(statement: Insert) -> bool:
    """Whether ``inline()`` keeps SQLAlchemy from fetching the key."""
    return bool(statement._inline)


def nests_insert(statement: Insert) -> bool:
    """Whether one of its CTEs is an INSERT too, as PostgreSQL can."""
    return any(
        isinstance(each, Insert) and each is not statement for each in visitors.iterate(statement)
    )


def select_names(statement: Insert) -> Sequence[str]:
    """The columns that ``from_select`` fills."""
    return statement._select_names or ()


def copies_its_table(statement: Insert, table: Table, keys: Iterable[str]) -> bool:
    """Whether Alembic's batch mode fills these columns of ``table``, which takes the other's name.

    Stored bytes stay in their row then, and nothing opens them or makes something else of them.
    """
    query: Any = statement.select
    if not isinstance(query, Select):
        return False
    sources = query.get_final_froms()
    if len(sources) != 1 or not isinstance(sources[0], Table):
        return False
    outputs = dict(zip(select_names(statement), query.selected_columns, strict=False))
    return table.name == f"{_BATCH_PREFIX}{sources[0].name}"[:_BATCH_LENGTH] and all(
        isinstance(outputs.get(key), Column) for key in keys
    )
