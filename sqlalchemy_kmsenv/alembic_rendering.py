"""What Alembic writes and runs for encrypted columns; ``alembic_plugin`` registers it.

Alembic lets others add operations, not change its own: before 1.17 ``dispatch_for`` has no
``replace``. Its dispatchers keep a dictionary, read and written here alone, and seen in 1.13 and
1.20: ``_registry``, and ``Operations._to_impl``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations, ops
from alembic.util import CommandError
from sqlalchemy import Column, LargeBinary, MetaData, Table, inspect, literal, select
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.migration_repr import import_of_inner
from sqlalchemy_kmsenv.columns.sealed_check import LooksSealed
from sqlalchemy_kmsenv.errors import KmsEnvError

__all__ = ["AlterEncryptedError", "register"]

_Renderer = Callable[[AutogenContext, Any], Any]
_PAGE = "docs/adopting.md of sqlalchemy-kmsenv has the steps"


class AlterEncryptedError(CommandError, KmsEnvError):
    """An ALTER would leave plaintext in a column that is declared as encrypted, or the reverse."""


def register() -> None:
    """Let Alembic import what it renders, and alter no plaintext column into an encrypted one."""
    for operation in (ops.CreateTableOp, ops.AddColumnOp):
        _replace(renderers, operation, _with_imports)
    _replace(renderers, ops.AlterColumnOp, _refusing_renderer)
    _replace(Operations._to_impl, ops.AlterColumnOp, _refusing_implementation)


def _replace(
    dispatcher: Any, operation: type[MigrateOperation], wrap: Callable[[Any], Any]
) -> None:
    key = (operation, "default")
    dispatcher._registry[key] = wrap(dispatcher._registry[key])


def _with_imports(render: _Renderer) -> _Renderer:
    def rendered(context: AutogenContext, operation: MigrateOperation) -> Any:
        for encrypted in _encrypted_types(operation):
            if context.opts.get("user_module_prefix") is None:
                context.imports.add("import sqlalchemy_kmsenv")
            context.imports.update(import_of_inner(encrypted.inner))
        return render(context, operation)

    return rendered


def _encrypted_types(operation: MigrateOperation) -> Iterator[Encrypted[Any]]:
    columns: list[Any] = []
    if isinstance(operation, ops.CreateTableOp):
        columns = list(operation.columns)
    elif isinstance(operation, ops.AddColumnOp):
        columns = [operation.column]
    types: list[Any] = [column.type for column in columns if isinstance(column, Column)]
    if isinstance(operation, ops.AlterColumnOp):
        types = [operation.modify_type, operation.existing_type]
    yield from (each for each in types if isinstance(each, Encrypted))


def _refusing_renderer(render: _Renderer) -> _Renderer:
    with_imports = _with_imports(render)

    def rendered(context: AutogenContext, operation: ops.AlterColumnOp) -> Any:
        existing = operation.existing_type
        refusal = None if existing is None else _refusal(operation, existing)
        if refusal is not None:
            return f"raise NotImplementedError(\n    {refusal!r}\n)"
        return with_imports(context, operation)

    return rendered


def _refusing_implementation(
    alter: Callable[[Operations, Any], None],
) -> Callable[[Operations, Any], None]:
    def altered(operations: Operations, operation: ops.AlterColumnOp) -> None:
        if isinstance(operation.modify_type, Encrypted):
            existing = _existing_type(operations, operation)
            refusal = None if existing is None else _refusal(operation, existing)
            if refusal is not None:
                raise AlterEncryptedError(refusal)
        elif operation.modify_type is not None and _has_envelopes(operations, operation):
            raise AlterEncryptedError(_opens_none(operation))
        alter(operations, operation)

    return altered


def _existing_type(operations: Operations, operation: ops.AlterColumnOp) -> TypeEngine[Any] | None:
    """The type that the database says, or else that the migration says."""
    if not operations.migration_context.as_sql:
        columns = inspect(operations.get_bind()).get_columns(
            operation.table_name, schema=operation.schema
        )
        found = {each["name"]: each["type"] for each in columns}
        return found.get(operation.column_name)
    if operation.existing_type is None:
        raise AlterEncryptedError(
            f"{_name(operation)}: an SQL script (--sql) that makes a column Encrypted needs"
            " existing_type=, such as sa.LargeBinary()"
        )
    existing: TypeEngine[Any] = operation.existing_type
    return existing


def _refusal(operation: ops.AlterColumnOp, existing: TypeEngine[Any]) -> str | None:
    """Why the column cannot get its new type; None where bytes stay bytes."""
    new = operation.modify_type
    if isinstance(new, Encrypted) and not _holds_bytes(existing):
        return (
            f"{_name(operation)} holds plaintext, and altering its type would leave it there: it"
            f" takes a second column and a copy, in releases of their own; {_PAGE}. Without any"
            " rows, drop the column and add it anew"
        )
    if isinstance(existing, Encrypted) and new is not None and not _holds_bytes(new):
        return _opens_none(operation)
    return None


def _opens_none(operation: ops.AlterColumnOp) -> str:
    return (
        f"{_name(operation)} holds envelopes, and altering its type opens none: it takes a"
        f" second column and a copy, in releases of their own; {_PAGE}, for the other direction"
    )


def _has_envelopes(operations: Operations, operation: ops.AlterColumnOp) -> bool:
    """Whether bytes of ours would become text or numbers; autogenerate sees bytes alone."""
    if operations.migration_context.as_sql or _holds_bytes(operation.modify_type):
        return False
    existing = _existing_type(operations, operation)
    if existing is None or not _holds_bytes(existing):
        return False
    column = Column(operation.column_name, LargeBinary)
    Table(operation.table_name, MetaData(), column, schema=operation.schema)
    sealed = select(literal(1)).where(column != b"", LooksSealed(column)).limit(1)
    return operations.get_bind().execute(sealed).first() is not None


def _holds_bytes(type_: Any) -> bool:
    if isinstance(type_, Encrypted):
        return True
    instance = type_() if isinstance(type_, type) else type_
    try:
        return bool(instance.python_type is bytes)
    except NotImplementedError:
        return False


def _name(operation: ops.AlterColumnOp) -> str:
    return f"{operation.table_name}.{operation.column_name}"
