"""Has each compiled statement looked through once, before anything of it is sent."""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.engine import Compiled, ExecutionContext
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler

from sqlalchemy_kmsenv.columns.from_statements import refuse_adapted
from sqlalchemy_kmsenv.columns.marks import was_sealed
from sqlalchemy_kmsenv.columns.places import check_definition, check_places
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError

_checked: weakref.WeakSet[Compiled] = weakref.WeakSet()
_checked_sealed: weakref.WeakSet[Compiled] = weakref.WeakSet()
"""Compiled forms that are right if the statement was sealed before."""


def before_cursor_execute(
    _: Connection, cursor: Any, __: str, ___: Any, context: ExecutionContext, ____: bool
) -> None:
    """Look through what was compiled, before anything of it is sent.

    Raises:
        UnboundValueError: an encrypted column stands where its envelope would be worked on.
    """
    compiled = context.compiled
    if isinstance(compiled, DDLCompiler):
        check_definition(compiled.statement)
    if not isinstance(compiled, SQLCompiler):
        return
    sealed = was_sealed(context.invoked_statement)
    checked = _checked_sealed if sealed else _checked
    if compiled in checked:
        return
    # What the ORM made of an ORM statement is kept with it.
    statement = getattr(compiled.compile_state, "statement", None)
    try:
        if isinstance(context.invoked_statement, Select):
            refuse_adapted(context.invoked_statement)
        check_places(
            compiled.statement if statement is None else statement,
            unsealed=None if sealed else compiled.column_keys or (),
        )
    except UnboundValueError:
        cursor.close()
        raise
    checked.add(compiled)
