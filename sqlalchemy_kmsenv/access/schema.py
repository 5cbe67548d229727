"""Is the real table one that the column can be kept in?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, inspect, types
from sqlalchemy.dialects import mysql

from sqlalchemy_kmsenv.access.checks import Check, check
from sqlalchemy_kmsenv.columns.binding import Binding

WIDE_ENOUGH = "column wide enough"
NOT_NULL = "identity and scope NOT NULL"
_LIMITS: tuple[tuple[type[Any], str], ...] = (
    (mysql.TINYBLOB, "255 bytes"),
    (mysql.MEDIUMBLOB, "16 MiB"),
)


def schema_checks(subject: str, connection: Connection, binding: Binding) -> Iterator[Check]:
    """The type of the column, and the columns that its values are bound to."""
    table = binding.column.table
    here = inspect(connection)
    columns = {found["name"]: found for found in here.get_columns(table.name, schema=table.schema)}
    key = here.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    yield _width(subject, connection.dialect.name, columns.get(binding.column.name))
    names = list(dict.fromkeys(bound.column.name for bound in binding.bound_columns))
    if names:
        rowid = _rowid(connection.dialect.name, key, columns)
        open_ones = [name for name in names if not _not_null(columns.get(name), rowid)]
        detail = f"NULL is possible, or the column absent: {', '.join(open_ones)}"
        yield check(
            subject,
            NOT_NULL,
            passed=not open_ones,
            detail=detail if open_ones else ", ".join(names),
        )


def _width(subject: str, dialect: str, found: Any) -> Check:
    if found is None:
        return check(subject, WIDE_ENOUGH, passed=False, detail="the table has no such column")
    kind = found["type"]
    shown = str(kind.compile()) if dialect == "sqlite" else repr(kind)
    if dialect in ("mysql", "mariadb"):
        limit = _limit(kind)
        detail = f"{shown} ends at {limit}; make it LONGBLOB" if limit else shown
        return check(subject, WIDE_ENOUGH, passed=not limit, detail=detail)
    binary = isinstance(kind, types._Binary)  # noqa: SLF001  the base of BLOB and BYTEA
    limited = getattr(kind, "length", None) is not None and dialect != "sqlite"
    detail = shown if binary else f"{shown} is no binary type"
    return check(subject, WIDE_ENOUGH, passed=binary and not limited, detail=detail)


def _limit(kind: Any) -> str | None:
    """Where the column of MySQL or MariaDB ends, unless it is the widest one."""
    if isinstance(kind, mysql.LONGBLOB):
        return None
    if not isinstance(kind, types._Binary):  # noqa: SLF001  as above
        return "text: it is no binary type"
    length = getattr(kind, "length", None)
    if length is not None:
        return f"{length} bytes"
    return next((limit for blob, limit in _LIMITS if isinstance(kind, blob)), "64 KiB")


def _rowid(dialect: str, key: list[str], columns: dict[str, Any]) -> str | None:
    """SQLite's alias of the row id, which is never NULL whatever its declaration says."""
    if dialect != "sqlite" or len(key) != 1 or key[0] not in columns:
        return None
    return key[0] if isinstance(columns[key[0]]["type"], types.INTEGER) else None


def _not_null(found: Any, rowid: str | None) -> bool:
    return found is not None and (not found["nullable"] or found["name"] == rowid)
