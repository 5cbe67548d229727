"""Functions of the database itself, whatever stands in PostgreSQL's search_path."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

T = TypeVar("T")


class BuiltIn(ColumnElement[T]):
    """A call of a function that no schema of anybody else's can put one of its own before."""

    __visit_name__ = "kmsenv_built_in"
    inherit_cache = True
    _traverse_internals = [("function", InternalTraversal.dp_clauseelement)]  # noqa: RUF012

    def __init__(self, function: FunctionElement[T]) -> None:
        self.function = function
        self.type = function.type


@compiles(BuiltIn)
def _compile_any(element: BuiltIn[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.function, **kw)


@compiles(BuiltIn, "postgresql")
def _compile_postgresql(element: BuiltIn[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return f"pg_catalog.{compiler.process(element.function, **kw)}"
