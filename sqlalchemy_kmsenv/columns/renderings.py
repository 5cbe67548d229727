"""The text of a part, in the SQL of each database: what is behind its letter.

Each rendering is injective: two values that a column may hold never have one text, or
whoever may write the table could give a row of theirs the values of another. What a
rendering cannot tell apart, or what no Python value stands for, it makes NULL of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv.cell import (
    BYTES_PART,
    DATE_PART,
    INT_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.columns.variants import UuidForm, uuid_form

POSTGRESQL_JOIN = " OPERATOR(pg_catalog.||) "
"""``||`` of PostgreSQL itself, whatever stands in search_path."""

Form = tuple[PartKind, UuidForm | None]


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one kind of part is written in SQL; ``{0}`` in ``sql`` stands for the column."""

    sql: str
    may_be_null: bool = False
    """Whether there are values of the column that it makes NULL of."""


def rendering(kind: PartKind, column_type: TypeEngine[Any], dialect: Dialect) -> Rendering:
    """How parts of this kind are written from a column of this type."""
    form = uuid_form(column_type, dialect) if kind is UUID_PART else None
    return _OF_DATABASE[dialect.name][kind, form]


def stored_text(sql: str, dialect: Dialect) -> str:
    """The UTF-8 of a text in lower-case hexadecimal; ``sql`` is the text."""
    texts = _OF_DATABASE.get(dialect.name)
    return (texts[STR_PART, None].sql if texts else "lower(hex({0}))").format(sql)


# SQLite keeps whatever it is given in a column of any type, and 'a' and x'61' are two keys.
_SQLITE: dict[Form, Rendering] = {
    (INT_PART, None): Rendering("CASE typeof({0}) WHEN 'integer' THEN {0} END", True),
    (STR_PART, None): Rendering("CASE typeof({0}) WHEN 'text' THEN lower(hex({0})) END", True),
    (BYTES_PART, None): Rendering("CASE typeof({0}) WHEN 'blob' THEN lower(hex({0})) END", True),
    (UUID_PART, UuidForm.DIGITS): Rendering(
        "CASE WHEN typeof({0}) = 'text' AND length({0}) = 32 AND {0} NOT GLOB '*[^0-9a-f]*'"
        " THEN {0} END",
        True,
    ),
    (DATE_PART, None): Rendering(
        "CASE WHEN typeof({0}) = 'text'"
        " AND {0} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' THEN {0} END",
        True,
    ),
}

# Whoever may CREATE in a schema of search_path makes functions, types and operators of the
# same names: a name without its schema may be theirs (CVE-2018-1058), and lie about the row.
# So no simple CASE either, whose = would be looked up in the path.
_POSTGRESQL: dict[Form, Rendering] = {
    (INT_PART, None): Rendering("CAST({0} AS pg_catalog.text)"),
    (STR_PART, None): Rendering(
        "pg_catalog.encode(pg_catalog.convert_to(CAST({0} AS pg_catalog.text), 'UTF8'), 'hex')"
    ),
    (BYTES_PART, None): Rendering("pg_catalog.encode({0}, 'hex')"),
    # Takes a uuid alone: text would have several spellings of one.
    (UUID_PART, UuidForm.NATIVE): Rendering("pg_catalog.encode(pg_catalog.uuid_send({0}), 'hex')"),
    (UUID_PART, UuidForm.DIGITS): Rendering("CAST({0} AS pg_catalog.text)"),
    # Years before Christ are written as those after, and infinity is NULL.
    (DATE_PART, None): Rendering(
        "CASE WHEN pg_catalog.date_ge({0}, '0001-01-01') AND pg_catalog.date_le({0}, '9999-12-31')"
        " THEN pg_catalog.to_char(CAST({0} AS pg_catalog.timestamp), 'YYYY-MM-DD') END",
        True,
    ),
}

# A function of MySQL and MariaDB comes before a stored one of the same name.
_MYSQL: dict[Form, Rendering] = {
    (INT_PART, None): Rendering("{0}"),
    (STR_PART, None): Rendering("lower(hex(convert({0} using utf8mb4)))"),
    (BYTES_PART, None): Rendering("lower(hex({0}))"),
    (UUID_PART, UuidForm.NATIVE): Rendering("replace(cast({0} as char), '-', '')"),
    (UUID_PART, UuidForm.DIGITS): Rendering("cast({0} as char)"),
    (DATE_PART, None): Rendering("cast({0} as char)"),
}

_OF_DATABASE = {
    "sqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
