"""The CHECK of ``Encrypted(..., check=True)``: plaintext from elsewhere fails in the database.

It belongs to the type, as that of ``Boolean(create_constraint=True)`` does, so that Alembic
renders it with the type and a copied table makes its own. ``_type_bound`` and ``_create_rule`` of
``CheckConstraint`` say so; seen in SQLAlchemy 2.0.36 and 2.1.9.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Column, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import conv
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeEngine

# The mark of an envelope, and any format to come: none of these pairs begins UTF-8 text.
_FIRST, _LAST = "e501", "e50f"
_LONGEST_NAME = 63


class LooksSealed(ColumnElement[bool]):
    """Whether stored bytes begin as an envelope does, or are empty: a row to be sealed late."""

    __visit_name__ = "kmsenv_looks_sealed"
    inherit_cache = False
    type = Boolean()
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement)]  # noqa: RUF012  as SQLAlchemy's own

    def __init__(self, column: Column[Any]) -> None:
        self.column = column


@compiles(LooksSealed)
def _render(element: LooksSealed, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.column, **options)
    first, last = f"X'{_FIRST}'", f"X'{_LAST}'"
    return f"length({column}) = 0 OR substr({column}, 1, 2) BETWEEN {first} AND {last}"


@compiles(LooksSealed, "postgresql")
def _render_for_postgresql(element: LooksSealed, compiler: SQLCompiler, **options: Any) -> str:
    # Qualified, or a schema in the search_path of a migration could say what they mean.
    column = compiler.process(element.column, **options)
    head = f"pg_catalog.substr({column}, 1, 2)"
    first, last = (f"pg_catalog.decode('{each}', 'hex')" for each in (_FIRST, _LAST))
    return (
        f"pg_catalog.length({column}) OPERATOR(pg_catalog.=) 0"
        f" OR ({head} OPERATOR(pg_catalog.>=) {first} AND {head} OPERATOR(pg_catalog.<=) {last})"
    )


def add_sealed_check(table: Table, column: Column[Any]) -> None:
    """Give the table the CHECK of one of its columns, in place of one of the same name."""
    name = _name(table, column)
    table.constraints -= {each for each in table.constraints if each.name == name}
    CheckConstraint(
        LooksSealed(column),
        name=conv(name),
        table=table,
        _type_bound=True,
        _create_rule=_Always(column.type),
    )


def is_sealed_check(constraint: CheckConstraint) -> bool:
    """Whether a CHECK is one of these, declared or reflected."""
    sql: Any = constraint.sqltext
    return isinstance(sql, LooksSealed) or f"'{_FIRST}'" in str(sql).lower().replace("\\x", "")


def _name(table: Table, column: Column[Any]) -> str:
    # Alembic's batch mode builds the table anew under another name.
    name = f"ck_{table.name.removeprefix('_alembic_tmp_')}_{column.name}_sealed"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"ck_{hashlib.sha256(name.encode()).hexdigest()[:16]}_sealed"


@dataclass(frozen=True)
class _Always:
    """A rule to create the CHECK by, which is always.

    Alembic passes over what has a rule, with a warning, where SQLite cannot add it. Before 1.16
    it takes the rule's ``target`` for the type that brings the constraint.
    """

    target: TypeEngine[Any]

    def __call__(self, _: Any) -> bool:
        return True
