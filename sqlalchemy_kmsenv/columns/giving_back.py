"""What a statement was executed with, told as if it had not been sealed.

The ORM sets the defaults that ran on its objects, and a result has its
``last_inserted_params()``: both are read from the execution, which saw envelopes.

Writes ``compiled_parameters``, ``compiled`` and the private ``_rowcount`` of the execution
context, and reads ``insert_prefetch`` and ``update_prefetch`` of the compiled statement; seen
on 2.0.36 and 2.1.9 (``tests/columns/test_differential.py`` holds them to it).
"""

from __future__ import annotations

from copy import copy
from typing import Any

from sqlalchemy_kmsenv.columns.marks import Execution


def give_back(context: Any, execution: Execution) -> None:
    """Put the values back, and let the defaults that ran here count as SQLAlchemy's own."""
    for sealed, (name, values) in execution.given.items():
        for parameters, value in zip(context.compiled_parameters, values, strict=False):
            del parameters[sealed]
            parameters[name] = value
    if execution.defaulted:
        # A copy: the compiled statement itself also serves executions that give the values.
        compiled = copy(context.compiled)
        attribute = "insert_prefetch" if context.isinsert else "update_prefetch"
        own = getattr(compiled, attribute)
        defaulted = [column for column in execution.defaulted if column not in set(own)]
        setattr(compiled, attribute, [*own, *defaulted])
        context.compiled = compiled


def count_rows(context: Any, count: int) -> None:
    """Let the result say so many rows, where the driver would count otherwise."""
    context._rowcount = count
