"""The hooks into SQLAlchemy, for every engine and every table of the process."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Column, Connection, ForeignKeyConstraint, Insert, Table, Update, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import FromStatement, Mapper

from sqlalchemy_kmsenv.columns import flushing, handover, ledger, looking_through, moving
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from sqlalchemy_kmsenv.columns.bare_tables import note_encrypted, refuse_plaintext
from sqlalchemy_kmsenv.columns.bound_columns import IncompleteTableError, UntypedKeyError
from sqlalchemy_kmsenv.columns.dml import Rows, table_of
from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.from_statements import refuse_stored_bytes
from sqlalchemy_kmsenv.columns.giving_back import drop_rows, give_back, hide_keys
from sqlalchemy_kmsenv.columns.inserting import seal_insert
from sqlalchemy_kmsenv.columns.late_sealing import after_insert, refused
from sqlalchemy_kmsenv.columns.logical_names import claim_logical_name
from sqlalchemy_kmsenv.columns.marking import check_option, mark_result
from sqlalchemy_kmsenv.columns.marks import execution_of
from sqlalchemy_kmsenv.columns.other_targets import refuse_other_targets
from sqlalchemy_kmsenv.columns.plan import (
    encrypted_columns,
    forget_plan,
)
from sqlalchemy_kmsenv.columns.returned_rows import sending
from sqlalchemy_kmsenv.columns.row_logging import mute, unmute
from sqlalchemy_kmsenv.columns.schema_uses import refuse_uses_of_envelopes
from sqlalchemy_kmsenv.columns.sealed_check import add_sealed_check
from sqlalchemy_kmsenv.columns.sqlite_encoding import check_encoding
from sqlalchemy_kmsenv.columns.transactions import Options
from sqlalchemy_kmsenv.columns.updating import seal_update
from sqlalchemy_kmsenv.columns.variants import type_and_variants
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring.statements import next_statement

_untyped: WeakSet[Table] = WeakSet()
"""Tables with a key whose type comes from a table that is not defined yet."""


def listen() -> None:
    """Install the hooks; called once, when the package is imported."""
    event.listen(Column, "after_parent_attach", _adopt_column)
    event.listen(Table, "after_parent_attach", _check_defined_table)
    event.listen(ForeignKeyConstraint, "after_parent_attach", _look_again)
    event.listen(Table, "before_create", _check_table)
    event.listen(Table, "after_create", _note_created_table)
    event.listen(Mapper, "after_mapper_constructed", _check_mapped_tables)
    event.listen(Engine, "before_execute", _seal_statement, retval=True)
    event.listen(Engine, "after_execute", _after_statement)
    event.listen(Engine, "before_cursor_execute", looking_through.before_cursor_execute)
    event.listen(Engine, "before_cursor_execute", _next_statement)
    event.listen(Engine, "before_cursor_execute", sending)
    event.listen(Engine, "handle_error", refused)
    event.listen(Engine, "after_cursor_execute", mute)
    event.listen(Engine, "after_execute", unmute)
    moving.listen()
    handover.listen()
    ledger.listen()
    flushing.listen()


def _adopt_column(column: Column[Any], parent: Any) -> None:
    if isinstance(parent, Table):
        forget_plan(parent)
    if any(isinstance(each, Encrypted) for each in type_and_variants(column.type)[1:]) or (
        isinstance(column.type, Encrypted) and len(type_and_variants(column.type)) > 1
    ):
        raise ConfigurationError(
            f"{column.name}: Encrypted and with_variant() do not go together; a value is encrypted"
            " on every database, and its inner type is the library's own affair"
        )
    if isinstance(column.type, Encrypted):
        column.type.adopt(column)
        if isinstance(parent, Table):
            claim_logical_name(parent, column, column.type)
        if column.type.check and isinstance(parent, Table):
            add_sealed_check(parent, column)


def _look_again(_: ForeignKeyConstraint, parent: Any) -> None:
    if isinstance(parent, Table):
        forget_plan(parent)


def _check_defined_table(table: Table, _: Any) -> None:
    _check_unless_incomplete(table)
    for other in [each for each in _untyped if each.metadata is table.metadata]:
        # The table that is defined now may be the one that its key waited for.
        _untyped.discard(other)
        _check_unless_incomplete(other)


def _check_unless_incomplete(table: Table) -> None:
    try:
        _check_table(table)
    except UntypedKeyError:
        _untyped.add(table)
    except IncompleteTableError:
        # A model is looked at again when it is mapped, created or given its keyrings; one without
        # a key may be waiting for automap or DeferredReflection to read it from the database.
        if attached_keyrings(table.metadata) and table.primary_key.columns:
            raise


def _check_mapped_tables(mapper: Mapper[Any], _: Any) -> None:
    for table in mapper.tables:
        if isinstance(table, Table):
            with suppress(UntypedKeyError):
                _check_table(table)


def _check_table(table: Table, *_: Any, **__: Any) -> None:
    if encrypted_columns(table):
        refuse_uses_of_envelopes(table)


def _note_created_table(table: Table, connection: Any, **_: Any) -> None:
    names = [binding.column.name for binding in encrypted_columns(table).values()]
    # Alembic's offline mode has another kind of connection, which writes SQL into a file.
    if isinstance(connection, Connection):
        note_encrypted(connection, table, names, connection.get_execution_options())


def _seal_statement(
    connection: Connection,
    statement: Any,
    many: Rows,
    single: Any,
    options: Options,
) -> tuple[Any, Any, Any]:
    check_option(options)
    if isinstance(statement, FromStatement):
        refuse_stored_bytes(statement)
    if not isinstance(statement, (Insert, Update)):
        return statement, many, single
    refuse_other_targets(statement, many or ([single] if single else []))
    table = table_of(statement)
    bindings = encrypted_columns(table) if table is not None else {}
    rows: Rows = many or ([single] if single else [])
    if table is None or not bindings:
        refuse_plaintext(connection, statement, rows, options)
        return statement, many, single
    names = (binding.column.name for binding in bindings.values())
    note_encrypted(connection, table, names, options)
    if any(binding.bound_columns for binding in bindings.values()):
        check_encoding(connection)
    sealed: Insert | Update
    if isinstance(statement, Insert):
        sealed, sealed_rows = seal_insert(
            connection, statement, table, bindings, rows, options=options
        )
    else:
        sealed, sealed_rows = seal_update(
            connection, statement, table, bindings, rows, options=options
        )
    if many:
        return sealed, sealed_rows, {}
    return sealed, [], sealed_rows[0] if sealed_rows else {}


def _next_statement(*_: Any) -> None:
    next_statement()


def _after_statement(
    connection: Connection, statement: Any, _: Any, __: Any, options: Options, result: Any
) -> None:
    mark_result(result, options)
    execution = execution_of(statement)
    if execution is None:
        return
    if execution.late is not None:
        after_insert(connection, execution.late, result)
    give_back(result.context, execution)
    if execution.drops_rows:
        drop_rows(result)
    if execution.hides_keys:
        hide_keys(result)
