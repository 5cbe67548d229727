"""Statements that write a table under another name, or another table as well.

Nothing can be sealed in them, so that what is encrypted, and what names its rows,
must stay as it is. Reads the private ``_values`` and ``_ordered_values``, as ``dml`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Insert, Join, Table, Update
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromClause

from sqlalchemy_kmsenv.columns.conflicts import conflicts
from sqlalchemy_kmsenv.columns.dml import Rows, table_of, value_expressions, written_columns
from sqlalchemy_kmsenv.columns.insert_clauses import select_names
from sqlalchemy_kmsenv.columns.plan import concerned, encrypted_columns
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError


def refuse_other_targets(statement: Insert | Update, rows: Rows) -> None:
    """Refuse an UPDATE of an alias, a join or several tables that writes what is concerned.

    Raises:
        UnboundValueError: an encrypted column, or one that its values are bound to.
    """
    if not isinstance(statement, Update):
        return
    own = table_of(statement)
    if own is None:
        names = {key for key, _ in value_expressions(statement)}
        names.update(*(row.keys() for row in rows[:1]))
        for table in _tables(statement.table):
            _refuse(table, names)
        return
    for table, key in written_columns(statement):
        if table.key != own.key:
            _refuse(table, {key})


def refuse_unsealed(statement: Insert | Update, parameters: Iterable[str] = ()) -> None:
    """Refuse a statement that was not sealed, and writes what is concerned.

    Such as one inside of another statement, or of ``lambda_stmt()``, ``from_statement()``
    and whatever else is no INSERT or UPDATE to the engine's events.

    Raises:
        UnboundValueError: an encrypted column, or one that its values are bound to.
    """
    names = {*parameters, *(key for key, _ in value_expressions(statement))}
    for table in _tables(statement.table):
        if isinstance(statement, Update):
            _refuse(table, names)
            continue
        names.update(select_names(statement))
        _refuse(table, names & encrypted_columns(table).keys())
        for conflict in conflicts(statement):
            _refuse(table, set(conflict.sets))
    if isinstance(statement, Update):
        for table, key in written_columns(statement):
            _refuse(table, {key})


def _tables(source: FromClause) -> Iterator[Table]:
    if isinstance(source, Table):
        # The ORM passes an annotated copy.
        yield source.metadata.tables.get(source.key, source)
    elif isinstance(source, Join):
        yield from _tables(source.left)
        yield from _tables(source.right)
    elif isinstance(source, AliasedReturnsRows):
        element: Any = source.element
        if isinstance(element, FromClause):
            yield from _tables(element)


def _refuse(table: Table, names: set[str]) -> None:
    bindings = encrypted_columns(table)
    written = names & concerned(bindings)
    if written:
        columns = ", ".join(f"{table.name}.{name}" for name in sorted(written))
        encrypted = ", ".join(sorted(bindings))
        raise UnboundValueError(
            f"this statement writes {columns} through an alias, a join, several tables, a lambda"
            f" or from inside of another statement, where the encrypted columns of {table.name}"
            f" ({encrypted}) cannot be sealed; execute insert({table.name}) or update({table.name})"
            " by itself"
        )
