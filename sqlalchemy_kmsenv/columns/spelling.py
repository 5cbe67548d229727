"""Text compared byte by byte, whatever the collation of its column."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class StoredText(FunctionElement[str]):
    """The UTF-8 bytes of a text column, as the hexadecimal digits that ``spelled`` gives."""

    inherit_cache = True
    name = "kmsenv_stored_text"
    type = String()


def spelled(text: str) -> str:
    """What ``StoredText`` is for this text."""
    return text.encode().hex()


@compiles(StoredText)
def _compile_any(element: StoredText, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower(hex({compiler.process(element.clauses, **kw)}))"


@compiles(StoredText, "postgresql")
def _compile_postgresql(element: StoredText, compiler: SQLCompiler, **kw: Any) -> str:
    text = compiler.process(element.clauses, **kw)
    return f"encode(convert_to(CAST({text} AS TEXT), 'UTF8'), 'hex')"


@compiles(StoredText, "mysql", "mariadb")
def _compile_mysql(element: StoredText, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower(hex(convert({compiler.process(element.clauses, **kw)} using utf8mb4)))"
