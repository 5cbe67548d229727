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
    DATETIME_PART,
    INT_PART,
    STR_PART,
    UUID_PART,
    PartKind,
)
from sqlalchemy_kmsenv.columns.key_types import Form, form_of

POSTGRESQL_JOIN = " OPERATOR(pg_catalog.||) "
"""``||`` of PostgreSQL itself, whatever stands in search_path."""

_Texts = dict[tuple[PartKind, Form], "Rendering"]


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one kind of part is written in SQL; ``{0}`` in ``sql`` stands for the column."""

    sql: str
    may_be_null: bool = False
    """Whether there are values of the column that it makes NULL of."""


def rendering(kind: PartKind, column_type: TypeEngine[Any], dialect: Dialect) -> Rendering:
    """How parts of this kind are written from a column of this type."""
    return _OF_DATABASE[dialect.name][kind, form_of(kind, column_type, dialect)]


def stored_text(sql: str, dialect: Dialect) -> str:
    """The UTF-8 of a text in lower-case hexadecimal; ``sql`` is the text."""
    texts = _OF_DATABASE.get(dialect.name)
    return (texts[STR_PART, Form.ONLY].sql if texts else "lower(hex({0}))").format(sql)


_HYPHENATED = "________-____-____-____-____________"
_DIGIT = "[0-9]"
_SQLITE_DATE = f"{_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2}"
_SQLITE_TIME = f"{_DIGIT * 2}:{_DIGIT * 2}:{_DIGIT * 2}.{_DIGIT * 6}"
_SQLITE_DATETIME = (
    f"CASE WHEN typeof({{0}}) = 'text' AND {{0}} GLOB '{_SQLITE_DATE} {_SQLITE_TIME}'"
    " THEN replace(replace(replace({0}, '-', ''), ':', ''), ' ', 'T') END"
)

# SQLite keeps whatever it is given in a column of any type, and 'a' and x'61' are two keys.
_SQLITE: _Texts = {
    (INT_PART, Form.ONLY): Rendering("CASE typeof({0}) WHEN 'integer' THEN {0} END", True),
    (STR_PART, Form.ONLY): Rendering("CASE typeof({0}) WHEN 'text' THEN lower(hex({0})) END", True),
    (BYTES_PART, Form.ONLY): Rendering(
        "CASE typeof({0}) WHEN 'blob' THEN lower(hex({0})) END", True
    ),
    (UUID_PART, Form.DIGITS): Rendering(
        "CASE WHEN typeof({0}) = 'text' AND length({0}) = 32 AND {0} NOT GLOB '*[^0-9a-f]*'"
        " THEN {0} END",
        True,
    ),
    (UUID_PART, Form.HYPHENS): Rendering(
        f"CASE WHEN typeof({{0}}) = 'text' AND {{0}} GLOB '{_HYPHENATED.replace('_', '?')}'"
        " AND replace({0}, '-', '') NOT GLOB '*[^0-9a-f]*' THEN replace({0}, '-', '') END",
        True,
    ),
    (UUID_PART, Form.BYTES): Rendering(
        "CASE WHEN typeof({0}) = 'blob' AND length({0}) = 16 THEN lower(hex({0})) END", True
    ),
    (DATE_PART, Form.ONLY): Rendering(
        f"CASE WHEN typeof({{0}}) = 'text' AND {{0}} GLOB '{_SQLITE_DATE}' THEN {{0}} END", True
    ),
    (DATETIME_PART, Form.NAIVE): Rendering(_SQLITE_DATETIME, True),
    (DATETIME_PART, Form.UTC): Rendering(f"{_SQLITE_DATETIME} || 'Z'", True),
}


def _postgresql_datetime(utc: str, end: str) -> Rendering:
    # timestamp_ge takes no timestamptz: where the model says the other type, this is an error.
    return Rendering(
        f"CASE WHEN pg_catalog.timestamp_ge({utc}, '0001-01-01')"
        f" AND pg_catalog.timestamp_le({utc}, '9999-12-31 23:59:59.999999')"
        f" THEN pg_catalog.to_char({utc}, 'YYYYMMDD\"T\"HH24MISS.US{end}') END",
        True,
    )


def _postgresql_text(text: str) -> str:
    """The UTF-8 of a text; what no row has been named by, where two texts have the same."""
    utf8 = f"pg_catalog.convert_to({text}, 'UTF8')"
    encoding = "CAST(pg_catalog.getdatabaseencoding() AS pg_catalog.text)"
    return (
        f"CASE WHEN pg_catalog.int4eq(pg_catalog.strpos('{_SEVERAL_CODES}', {encoding}), 0)"
        f" OR pg_catalog.texteq(pg_catalog.convert_from({utf8}, 'UTF8'), {text})"
        f" THEN pg_catalog.encode({utf8}, 'hex') ELSE 'x' END"
    )


_SEVERAL_CODES = "EUC_TW EUC_JP MULE_INTERNAL"
"""Encodings of PostgreSQL's databases in which a character may have several."""

# Whoever may CREATE in a schema of search_path makes functions, types and operators of the
# same names: a name without its schema may be theirs (CVE-2018-1058), and lie about the row.
# So no simple CASE either, whose = would be looked up in the path.
_POSTGRESQL: _Texts = {
    (INT_PART, Form.ONLY): Rendering("CAST({0} AS pg_catalog.text)"),
    (STR_PART, Form.ONLY): Rendering(_postgresql_text("CAST({0} AS pg_catalog.text)")),
    (BYTES_PART, Form.ONLY): Rendering("pg_catalog.encode({0}, 'hex')"),
    # Takes a uuid alone: text would have several spellings of one.
    (UUID_PART, Form.NATIVE): Rendering("pg_catalog.encode(pg_catalog.uuid_send({0}), 'hex')"),
    (UUID_PART, Form.DIGITS): Rendering("CAST({0} AS pg_catalog.text)"),
    (UUID_PART, Form.HYPHENS): Rendering(
        f"CASE WHEN pg_catalog.textlike(CAST({{0}} AS pg_catalog.text), '{_HYPHENATED}')"
        " THEN pg_catalog.replace(CAST({0} AS pg_catalog.text), '-', '') END",
        True,
    ),
    (UUID_PART, Form.BYTES): Rendering("pg_catalog.encode({0}, 'hex')"),
    # Years before Christ are written as those after, and infinity is NULL.
    (DATE_PART, Form.ONLY): Rendering(
        "CASE WHEN pg_catalog.date_ge({0}, '0001-01-01') AND pg_catalog.date_le({0}, '9999-12-31')"
        " THEN pg_catalog.to_char(CAST({0} AS pg_catalog.timestamp), 'YYYY-MM-DD') END",
        True,
    ),
    (DATETIME_PART, Form.NAIVE): _postgresql_datetime("{0}", ""),
    (DATETIME_PART, Form.UTC): _postgresql_datetime("pg_catalog.timezone('UTC', {0})", '"Z"'),
}

# In these several bytes are one character, or some are none and become a question mark, or
# U+FFFD in tis620.
_ROUND_TRIP = (
    "cp932", "sjis", "ujis", "eucjpms", "big5", "gbk", "gb2312", "euckr",
    "latin2", "latin5", "cp1250", "cp1251", "koi8r", "greek", "armscii8", "tis620",
)  # fmt: skip


def _mysql_text() -> str:
    """The UTF-8 of a text, or NULL for bytes that are not what its characters are written as."""
    text, raw = "convert({0} using utf8mb4)", "hex(cast({0} as binary))"
    back = " ".join(f"WHEN '{name}' THEN hex(convert({text} using {name}))" for name in _ROUND_TRIP)
    unchanged = f"CASE charset({{0}}) {back} ELSE IF(locate('?', {text}) = 0, {raw}, NULL) END"
    return (
        f"lower(CASE WHEN charset({{0}}) IN ('utf8mb4', 'utf8mb3', 'utf8', 'ascii') THEN {raw}"
        f" WHEN charset({{0}}) = 'latin1' OR {raw} = {unchanged} THEN hex({text}) END)"
    )


_MYSQL_HYPHENS = Rendering(
    # Also a column of type UUID: it may be CHAR in the database, where hyphens are anywhere.
    f"CASE WHEN cast({{0}} as char) LIKE '{_HYPHENATED}'"
    " THEN replace(cast({0} as char), '-', '') END",
    True,
)
_MYSQL_DATETIME = (
    "replace(replace(replace(cast(cast({0} as datetime(6)) as char), '-', ''), ':', ''), ' ', 'T')"
)

# A function of MySQL and MariaDB comes before a stored one of the same name.
_MYSQL: _Texts = {
    (INT_PART, Form.ONLY): Rendering("{0}"),
    (STR_PART, Form.ONLY): Rendering(_mysql_text(), True),
    (BYTES_PART, Form.ONLY): Rendering("lower(hex({0}))"),
    (UUID_PART, Form.NATIVE): _MYSQL_HYPHENS,
    (UUID_PART, Form.HYPHENS): _MYSQL_HYPHENS,
    # A column of type UUID equals its digits and gives hyphens; text would not equal them.
    (UUID_PART, Form.DIGITS): Rendering(
        "CASE WHEN {0} = replace(cast({0} as char), '-', '')"
        " THEN replace(cast({0} as char), '-', '') END",
        True,
    ),
    (UUID_PART, Form.BYTES): Rendering("lower(hex({0}))"),
    (DATE_PART, Form.ONLY): Rendering("cast({0} as char)"),
    (DATETIME_PART, Form.NAIVE): Rendering(_MYSQL_DATETIME),
    (DATETIME_PART, Form.UTC): Rendering(f"concat({_MYSQL_DATETIME}, 'Z')"),
}

_OF_DATABASE = {
    "sqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
