"""Text compared byte by byte, whatever the collation of its column."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from sqlalchemy_kmsenv.columns.renderings import stored_text


class StoredText(FunctionElement[str]):
    """The UTF-8 bytes of a text column, as the hexadecimal digits that ``spelled`` gives."""

    inherit_cache = True
    name = "kmsenv_stored_text"
    type = String()


def spelled(text: str) -> str:
    """What ``StoredText`` is for this text."""
    return text.encode().hex()


@compiles(StoredText)
def _compile(element: StoredText, compiler: SQLCompiler, **kw: Any) -> str:
    return stored_text(compiler.process(element.clauses, **kw), compiler.dialect)
