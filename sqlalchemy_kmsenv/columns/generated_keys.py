"""Keys that PostgreSQL generates, taken ahead of the INSERT that uses them.

One round trip for a whole batch, so that every row's identity is known before
it is sealed and the INSERT stays what it was.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Integer, Sequence, func, select, text
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from sqlalchemy_kmsenv.columns.transactions import Options, schema_map, schema_of

# No row at all where the column owns no sequence, GENERATED ALWAYS would refuse the value,
# or this role may not use the sequence (an identity column's INSERT needs no right to it).
_OWNED_SEQUENCE = text(
    """
    SELECT pg_catalog.nextval(own.sequence)
      FROM (SELECT CAST(pg_catalog.pg_get_serial_sequence(:table_name, :column_name)
                        AS pg_catalog.regclass) AS sequence
              FROM pg_catalog.pg_attribute
             WHERE attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(:table_name)
               AND attname OPERATOR(pg_catalog.=) CAST(:column_name AS pg_catalog.name)
               AND attidentity OPERATOR(pg_catalog.<>) 'a') AS own,
           pg_catalog.generate_series(1, :how_many)
     WHERE own.sequence IS NOT NULL
       AND pg_catalog.has_sequence_privilege(own.sequence, 'USAGE, UPDATE')
    """
)


class _NextValue(ColumnElement[int]):
    """``nextval()`` of PostgreSQL itself, whatever stands in search_path."""

    inherit_cache = False

    def __init__(self, sequence: Sequence) -> None:
        self.next_value = sequence.next_value()
        self.type = Integer()


@compiles(_NextValue)
def _compile_next_value(element: _NextValue, compiler: SQLCompiler, **kw: Any) -> str:
    return f"pg_catalog.{compiler.process(element.next_value, **kw)}"


def take_ahead(
    connection: Connection, column: Column[Any], how_many: int, options: Options
) -> list[int] | None:
    """So many values of the sequence behind ``column``; None where that is not possible.

    A value that is never used leaves a gap, as a rolled-back INSERT does.
    """
    if connection.dialect.name != "postgresql":
        return None
    default = column.default
    if isinstance(default, Sequence) and not default.optional:
        rows = func.pg_catalog.generate_series(1, how_many).table_valued("n")
        query = select(_NextValue(default)).select_from(rows)
        taken = connection.execute(query, execution_options=schema_map(options))
        return list(taken.scalars())
    if not _is_generated(column):
        return None
    table = column.table
    schema = schema_of(table, options)
    parts = (table.name,) if schema is None else (schema, table.name)
    name = ".".join(_quoted(connection.dialect, each) for each in parts)
    values = connection.execute(
        _OWNED_SEQUENCE,
        {"table_name": name, "column_name": column.name, "how_many": how_many},
    )
    return list(values.scalars()) or None


def _quoted(dialect: Dialect, name: str) -> str:
    """A name as PostgreSQL's own functions read it, from a parameter."""
    quote = dialect.identifier_preparer.quote
    # In the text of a statement, some drivers take %% for a % sign.
    doubled = quote("%").count("%") > 1
    return quote(name).replace("%%", "%") if doubled else quote(name)


def _is_generated(column: Column[Any]) -> bool:
    """Whether the model says SERIAL, or IDENTITY BY DEFAULT."""
    if column.identity is not None:
        return not column.identity.always
    return column is column.table.autoincrement_column and column.server_default is None
