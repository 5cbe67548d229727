"""Why the database cannot be asked which rows an INSERT made, whose keys or scopes it makes."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Insert

from sqlalchemy_kmsenv.columns.conflicts import conflicts
from sqlalchemy_kmsenv.columns.insert_batch import InsertBatch
from sqlalchemy_kmsenv.columns.insert_clauses import (
    is_inline,
    marks_key_as_sentinel,
    prefixes,
    returns_rows,
)
from sqlalchemy_kmsenv.columns.transactions import commits_by_itself

_KNOWN_PREFIXES = {
    "IGNORE",
    *(f"OR {what}" for what in ("ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK")),
}
"""After these, what an INSERT makes is a row of its own, with a key of its own."""


def why_rows_stay_unknown(batch: InsertBatch, wanted: str) -> str | None:
    """The first reason, and what to do; ``wanted`` names what the rows would be given with."""
    return next(_obstacles(batch, wanted), None)


def _obstacles(batch: InsertBatch, wanted: str) -> Iterator[str]:
    statement, dialect = batch.statement, batch.connection.dialect
    if not batch.table.primary_key.columns:
        yield "the table has no primary key to ask for; give it with each row"
    if commits_by_itself(batch.connection):
        yield (
            "this connection commits each statement by itself, so that a row could stay"
            f" without its value; begin a transaction, or give {wanted} with each row"
        )
    if any(conflict.sets for conflict in conflicts(statement)) or _is_unknown_kind(statement):
        yield (
            "an INSERT that may change or replace rows does not say which it made; give"
            f" {wanted} with each row"
        )
    if batch.known_keys() is not None and not returns_rows(statement):
        return
    if batch.has_inline_rows:
        yield (
            "values([...]) does not return the keys in the order of its rows; execute"
            f" insert({batch.table.name}) with the list as its parameters"
        )
    if is_inline(statement) or not batch.table.implicit_returning:
        yield (
            "inline() and implicit_returning=False keep it from being asked; leave them out, or"
            f" give {wanted} with each row"
        )
    several = len(batch.rows) > 1
    if several and batch.ignores() and dialect.name in ("mysql", "mariadb"):
        yield (
            "an INSERT IGNORE of many rows does not say which it left out; insert them one by"
            f" one, or give {wanted} with each row"
        )
    if several and dialect.name == "sqlite" and marks_key_as_sentinel(batch.table):
        yield (
            "insert_sentinel=True on it keeps SQLAlchemy from sorting what SQLite returns;"
            f" leave that out, insert the rows one by one, or give {wanted} with each row"
        )
    if several and not dialect.insert_executemany_returning_sort_by_parameter_order:
        yield (
            f"{dialect.name} does not return the keys of many rows; insert them one by one, add"
            f" the objects to a session, or give {wanted} with each row"
        )


def _is_unknown_kind(statement: Insert) -> bool:
    return any(prefix.upper() not in _KNOWN_PREFIXES for prefix in prefixes(statement))
