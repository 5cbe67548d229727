"""Text compared byte by byte, whatever the collation of its column; UUIDs kept as text too."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from sqlalchemy_kmsenv.cell import UUID_PART
from sqlalchemy_kmsenv.columns.bound_columns import BoundColumn
from sqlalchemy_kmsenv.columns.key_types import Form, form_of
from sqlalchemy_kmsenv.columns.renderings import rendering, stored_text


class StoredText(FunctionElement[str]):
    """The UTF-8 bytes of a text column, as the hexadecimal digits that ``spelled`` gives."""

    inherit_cache = True
    name = "kmsenv_stored_text"
    type = String()


class StoredUuid(FunctionElement[str]):
    """The same of the digits of a UUID that is kept as text; NULL or others in another spelling.

    The database may find a row by any spelling, and a value is bound to one.
    """

    inherit_cache = True
    name = "kmsenv_stored_uuid"
    type = String()


def is_uuid_in_text(bound: BoundColumn, dialect: Dialect) -> bool:
    """Whether a column holds UUIDs as text, which the database finds in capitals too."""
    if bound.kind is not UUID_PART or dialect.name not in ("mysql", "mariadb"):
        return False
    return form_of(UUID_PART, bound.column.type, dialect) in (Form.DIGITS, Form.HYPHENS)


def spelled(text: str) -> str:
    """What ``StoredText`` is for this text."""
    return text.encode().hex()


@compiles(StoredText)
def _compile(element: StoredText, compiler: SQLCompiler, **kw: Any) -> str:
    return stored_text(compiler.process(element.clauses, **kw), compiler.dialect)


@compiles(StoredUuid)
def _compile_uuid(element: StoredUuid, compiler: SQLCompiler, **kw: Any) -> str:
    (column,) = element.clauses
    digits = rendering(UUID_PART, column.type, compiler.dialect).sql
    return stored_text(digits.format(compiler.process(column, **kw)), compiler.dialect)
