"""The SQL that returns a cell together with the row that it was found in.

One expression, ``<identity parts><scope parts><envelope>`` as binary, so that the
value which is opened is bound to what the database says the row is, whatever
statement read it. Another database joins in with ``@compiles(PackedCell, "name")``
and the same bytes (FORMAT.md, clause 8).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ScalarSelect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import Label
from sqlalchemy.sql.selectable import FromClause

from sqlalchemy_kmsenv.cell import PartKind
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.origins import column_beside
from sqlalchemy_kmsenv.columns.packed_subqueries import (
    PackedSubquery,
    processed,
    selected_inside,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.renderings import POSTGRESQL_JOIN, rendering
from sqlalchemy_kmsenv.errors import ConfigurationError


class PackedCell(ColumnElement[Any]):
    """A stored cell behind the parts of its row, as one binary value; NULL stays NULL."""

    __visit_name__ = "kmsenv_packed_cell"
    inherit_cache = False

    def __init__(
        self,
        stored: ColumnElement[Any],
        parts: tuple[tuple[PartKind, ColumnElement[Any]], ...],
        *,
        all_primary: bool = False,
    ) -> None:
        self.stored = stored
        self.parts = parts
        self.all_primary = all_primary
        """Whether every part is of the primary key, which is never NULL in a row."""
        self.type = stored.type


def pack(expression: ColumnElement[Any], binding: Binding) -> PackedCell | PackedSubquery:
    """The packed form of ``expression``, an encrypted column wherever it stands in FROM.

    Of a scalar subquery it is the packed form of the one column that it selects.

    Raises:
        UnboundValueError: the expression has no row, or a subquery left out a
            column that names it; the message says which to add.
    """
    stored = expression
    while isinstance(stored, Label):
        stored = stored.element
    if isinstance(stored, ScalarSelect) and selected_inside(stored) is not None:
        return PackedSubquery(stored)
    source = getattr(stored, "table", None)
    if not isinstance(source, FromClause):
        raise UnboundValueError(
            f"{_name(binding)} is encrypted and cannot be read through {_describe(stored)}, which"
            " belongs to no row. Select the column itself and compute in the application; for the"
            " stored bytes use type_coerce(column, LargeBinary)"
        )
    parts = tuple(
        (bound.kind, _beside(stored, bound.column, binding)) for bound in binding.bound_columns
    )
    all_primary = all(bound.column.primary_key for bound in binding.bound_columns)
    return PackedCell(stored, parts, all_primary=all_primary)


def _beside(stored: Any, column: Column[Any], binding: Binding) -> ColumnElement[Any]:
    found = column_beside(stored, column)
    if found is None:
        raise UnboundValueError(
            f"{_name(binding)} is encrypted and read from a subquery that does not carry"
            f" {column.table.name}.{column.name} beside it, which names its row; add that column"
            " to the subquery. A UNION that mixes it with other columns, or in other places, and a"
            " scalar subquery inside of another subquery, cannot be read: make two queries of it"
        )
    return found


def _name(binding: Binding) -> str:
    return f"{binding.column.table.name}.{binding.column.name}"


def _describe(expression: ColumnElement[Any]) -> str:
    return f"a {type(expression).__name__}"


@compiles(PackedCell)
def _compile_any(element: PackedCell, compiler: SQLCompiler, **kw: Any) -> str:
    stored = processed(compiler, element.stored, kw)
    if compiler.dialect.name == "default":
        parts = [processed(compiler, column, kw) for _, column in element.parts]
        return f"kmsenv_packed({', '.join([*parts, stored])})"
    raise ConfigurationError(
        f"encrypted columns are not supported on the database {compiler.dialect.name!r}; SQLite,"
        " PostgreSQL, MySQL and MariaDB are. Another one is added with"
        f' @compiles(PackedCell, "{compiler.dialect.name}") (docs/databases.md)'
    )


@compiles(PackedCell, "sqlite")
def _compile_sqlite(element: PackedCell, compiler: SQLCompiler, **kw: Any) -> str:
    # || makes text of bytes without changing them; the cast only changes the label back.
    stored = processed(compiler, element.stored, kw)
    if not element.parts:
        # A column of SQLite may hold a number, of which Python would make bytes of its own.
        return f"CAST({stored} AS BLOB)"
    parts, _ = _parts(element, compiler, kw)
    packed = f"CAST({' || '.join([*parts, stored])} AS BLOB)"
    # Not IS NOT NULL: in RETURNING, SQLite 3.40 says so of NULL where another column cannot be.
    return f"coalesce({packed}, CASE typeof({stored}) WHEN 'null' THEN NULL ELSE x'' END)"


@compiles(PackedCell, "postgresql")
def _compile_postgresql(element: PackedCell, compiler: SQLCompiler, **kw: Any) -> str:
    stored = processed(compiler, element.stored, kw)
    if not element.parts:
        return stored
    parts, may_be_null = _parts(element, compiler, kw)
    section = POSTGRESQL_JOIN.join(parts)
    packed = f"pg_catalog.convert_to({section}, 'UTF8'){POSTGRESQL_JOIN}{stored}"
    if not may_be_null:
        return f"({packed})"
    return _never_null_by_mistake(packed, stored, "CAST('' AS pg_catalog.bytea)")


@compiles(PackedCell, "mysql", "mariadb")
def _compile_mysql(element: PackedCell, compiler: SQLCompiler, **kw: Any) -> str:
    stored = processed(compiler, element.stored, kw)
    if not element.parts:
        return stored
    parts, _ = _parts(element, compiler, kw)
    # With sql_mode=ORACLE, CONCAT takes NULL for an empty text.
    packed = f"coalesce(CONCAT({', '.join([*parts, stored])}), x'')"
    return f"CASE WHEN {stored} IS NOT NULL THEN {packed} END"


def _never_null_by_mistake(packed: str, stored: str, empty: str) -> str:
    # A NULL among the parts, or MySQL's max_allowed_packet, would make NULL of a value
    # that is there. An empty value is no envelope, so that reading it is an error.
    return f"coalesce({packed}, CASE WHEN {stored} IS NOT NULL THEN {empty} END)"


def _parts(
    element: PackedCell, compiler: SQLCompiler, kw: dict[str, Any]
) -> tuple[list[str], bool]:
    """The texts of all parts with their letters and colons, and whether one may be NULL."""
    sql: list[str] = []
    may_be_null = not element.all_primary
    end = ""
    for kind, column in element.parts:
        text = rendering(kind, column.type, compiler.dialect)
        sql += [f"'{end}{kind.letter.decode()}'", text.sql.format(processed(compiler, column, kw))]
        may_be_null = may_be_null or text.may_be_null
        end = ":"
    return [*sql, f"'{end}'"], may_be_null
