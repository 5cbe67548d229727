"""What a connection says of its transaction, its driver and its schemas.

Uses the private ``NestedTransaction._savepoint`` and ``_previous_nested``, seen on
2.0.36 and 2.1.9 (``tests/columns/test_server_keys.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, TableClause
from sqlalchemy.engine import Dialect

Options = Mapping[str, Any]


def commits_by_itself(connection: Connection) -> bool:
    """Whether every statement is committed alone, as far as SQLAlchemy and the driver tell."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "get_autocommit"):  # PyMySQL, mysqlclient
        return bool(driver.get_autocommit())
    if getattr(driver, "autocommit", None) is True:  # sqlite3 since Python 3.12, psycopg
        return True
    if hasattr(driver, "in_transaction") and hasattr(driver, "isolation_level"):
        # sqlite3, aiosqlite; mysql-connector has only the first of the two.
        return driver.isolation_level is None and not driver.in_transaction
    # psycopg and psycopg2; asyncpg's adapter answers for its driver.
    for level in (driver, connection.connection.dbapi_connection):
        autocommit = getattr(level, "autocommit", None)
        if isinstance(autocommit, bool):
            return autocommit
    return False


def counts_rows(dialect: Dialect, executions: int) -> bool:
    """Whether the driver says how many rows so many executions of one UPDATE hit."""
    return (
        dialect.supports_sane_multi_rowcount if executions > 1 else dialect.supports_sane_rowcount
    )


def schema_map(options: Options) -> dict[str, Any]:
    """The execution options that a statement for the same tables needs."""
    translated = options.get("schema_translate_map")
    return {"schema_translate_map": translated} if translated else {}


def schema_of(table: TableClause, options: Options) -> str | None:
    """The schema of ``table`` once ``schema_translate_map`` has had its say."""
    translated: Mapping[str | None, str | None] | None = options.get("schema_translate_map")
    schema: str | None = table.schema
    return translated.get(schema, schema) if translated else schema


def open_savepoints(connection: Connection) -> frozenset[str]:
    """The names of the savepoints that a rollback could go back to."""
    names: set[str] = set()
    nested: Any = connection.get_nested_transaction()
    while nested is not None:
        names.add(nested._savepoint)
        nested = nested._previous_nested
    return frozenset(names)
