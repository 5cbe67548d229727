"""``op.rewrap_column(...)``: re-wrap a column from a migration. Importing this registers it.

So it does ``alembic_rendering``: autogenerate adds the imports that encrypted columns need, and
never alters a plaintext column into an encrypted one; and ``alembic_own_tables``: it drops no table
that a job keeps.

The job commits page by page on connections of its own, so that it locks no more than a
page, and a migration that was interrupted goes on where it was. docs/command-line.md says
what that means for the transaction of the migration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Unpack

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, MetaData, inspect, select, text
from sqlalchemy.exc import InvalidRequestError

from sqlalchemy_kmsenv import alembic_own_tables, alembic_rendering
from sqlalchemy_kmsenv.alembic_rendering import AlterEncryptedError
from sqlalchemy_kmsenv.cli.progress import Lines
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.errors import KmsEnvError
from sqlalchemy_kmsenv.rewrap import JobOptions, Report, rewrap

__all__ = ["AlterEncryptedError", "RewrapColumnError", "RewrapColumnOp"]

_SHOWN_FAILURES = 5
_PLACE = {
    "postgresql": (
        "pg_catalog.current_schema()",
        "pg_catalog.current_database()",
        "current_user",
    ),
    **dict.fromkeys(("mysql", "mariadb"), ("DATABASE()", "CURRENT_USER()")),
}
_log = logging.getLogger(__name__)

alembic_own_tables.register()
alembic_rendering.register()


class RewrapColumnError(CommandError, KmsEnvError):
    """A column was not re-wrapped, or not all of it; the migration fails.

    ``report`` has every count, and the first failures of rows; None where the job did
    not begin.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


@Operations.register_operation("rewrap_column")
class RewrapColumnOp(MigrateOperation):
    """Bring a column's envelopes to the current material of its keyring's KMS key."""

    def __init__(
        self,
        table: str,
        column: str,
        *,
        schema: str | None = None,
        metadata: MetaData | None = None,
        options: JobOptions,
    ) -> None:
        self.table = table
        self.column = column
        self.schema = schema
        self.metadata = metadata
        self.options = options

    @classmethod
    def rewrap_column(
        cls,
        operations: Operations,
        table: str,
        column: str,
        *,
        schema: str | None = None,
        metadata: MetaData | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        """Re-wrap the column, as ``sqlalchemy_kmsenv.rewrap.rewrap`` does.

        An empty column needs neither keyring nor key service. Otherwise the migration's
        transaction is committed first, and a new one begins afterwards.

        Args:
            operations: ``op``.
            table: as the database names it; so ``column``.
            column: an encrypted column.
            schema: of the table, where it is not the usual one.
            metadata: that has the column, with its keyring attached; by default
                ``target_metadata`` of env.py.
            options: the fields of ``JobOptions``.

        Raises:
            RewrapColumnError: a row failed, the job cannot run here, or it raised an
                error of this library, which is the cause then.
        """
        operations.invoke(cls(table, column, schema=schema, metadata=metadata, options=options))


@Operations.implementation_for(RewrapColumnOp)
def _rewrap_column(operations: Operations, operation: RewrapColumnOp) -> None:
    binding = _binding(operations, operation)
    name = f"{binding.column.table.key}.{binding.column.key}"
    if operations.migration_context.as_sql:
        raise RewrapColumnError(
            f"{name} cannot be re-wrapped by an SQL script (--sql): that takes the key service."
            " Run this migration online, or leave it out and run `kmsenv rewrap`"
        )
    if _is_empty(operations.get_bind(), binding):
        _log.info("%s has no value: nothing to re-wrap", name)
        return
    try:
        report = _rewrapped(operations, operation, binding)
    except RewrapColumnError:
        raise
    except KmsEnvError as error:
        raise RewrapColumnError(f"{name} was not re-wrapped: {error}") from error
    counts = report.counts
    _log.info("%s: %d rows, %d re-wrapped", name, counts.rows, counts.rewritten)
    if not report.ok:
        raise RewrapColumnError(_refusal(name, report), report)


def _rewrapped(operations: Operations, operation: RewrapColumnOp, binding: Binding) -> Report:
    # Before the transaction of the migration is committed.
    keyring_of(binding)
    lines = Lines(_log.info)
    options = JobOptions(on_progress=lines)
    options.update(operation.options)
    with _own_connections(operations, binding) as engine:
        metadata = binding.column.table.metadata
        report = rewrap(engine, metadata, columns=[binding.column], **options)
    lines.last()
    return report


def _binding(operations: Operations, operation: RewrapColumnOp) -> Binding:
    metadata = operation.metadata
    if metadata is None:
        metadata = operations.migration_context.opts.get("target_metadata")
    if not isinstance(metadata, MetaData):
        raise RewrapColumnError(
            "op.rewrap_column needs a MetaData with the encrypted column: give metadata=..., or"
            " target_metadata in env.py as one MetaData"
        )
    key = operation.table if operation.schema is None else f"{operation.schema}.{operation.table}"
    table = metadata.tables.get(key)
    bindings = () if table is None else encrypted_columns(table).values()
    for binding in bindings:
        if binding.column.name == operation.column:
            return binding
    raise RewrapColumnError(
        f"{key}.{operation.column} is not an encrypted column of the MetaData. If models have"
        " changed since this migration was written, give it a MetaData of its own with the table as"
        " it was"
    )


def _is_empty(connection: Connection, binding: Binding) -> bool:
    column = binding.column
    # The raw column would be opened: that takes keys.
    query = select(1).select_from(column.table).where(column.is_not(None)).limit(1)
    return connection.execute(query).first() is None


@contextmanager
def _own_connections(operations: Operations, binding: Binding) -> Iterator[Engine]:
    """The engine of the migration, while its own connection holds no transaction and no lock."""
    table = binding.column.table
    before = operations.get_bind()
    works_in = _works_in(before)
    schemas = before.get_execution_options().get("schema_translate_map") or {}
    with ExitStack() as stack:
        try:
            stack.enter_context(operations.migration_context.autocommit_block())
        except (AssertionError, InvalidRequestError) as error:
            raise RewrapColumnError(
                f"{table.fullname} cannot be re-wrapped inside of a transaction that env.py began:"
                " the job commits page by page on connections of its own, and the transaction may"
                " keep them waiting. Let Alembic begin it (context.begin_transaction()), or leave"
                " this migration out and run `kmsenv rewrap`"
            ) from error
        engine = operations.get_bind().engine.execution_options(schema_translate_map=schemas)
        with engine.connect() as connection:
            _refuse_elsewhere(table.fullname, works_in, _works_in(connection))
            schema = schemas.get(table.schema, table.schema)
            if not inspect(connection).has_table(table.name, schema=schema):
                raise RewrapColumnError(
                    f"another connection to {engine.url!r} does not see {table.fullname}, and the"
                    " job needs connections of its own: is it a database in memory?"
                )
        yield engine


def _works_in(connection: Connection) -> dict[str, str | None]:
    """What decides which table a bare name is, and which rows of it are seen."""
    asked = _PLACE.get(connection.dialect.name, ())
    if not asked:
        return {}
    found = connection.execute(text(f"SELECT {', '.join(asked)}")).one()
    return dict(zip(asked, found, strict=True))


def _refuse_elsewhere(
    table: str, migration: dict[str, str | None], job: dict[str, str | None]
) -> None:
    differing = [
        f"{asked} is {job[asked]!r} there and {migration[asked]!r} in the migration"
        for asked in migration
        if job[asked] != migration[asked]
    ]
    if differing:
        raise RewrapColumnError(
            f"{table} cannot be re-wrapped: the job needs connections of its own, and on these"
            f" {'; '.join(differing)}. Let every connection of the engine begin like that (a URL"
            " option, a pool event, schema_translate_map for schemas), or leave this migration out"
            " and run `kmsenv rewrap`"
        )


def _refusal(name: str, report: Report) -> str:
    bad = report.counts.failed + report.counts.not_envelopes
    lines = [f"{name}: {bad:,} of {report.counts.rows:,} rows failed"]
    if report.stopped:
        lines.append(f"stopped before the last row: {report.stopped}")
    failures = [failure for column in report.columns for failure in column.failures]
    lines += [
        f"row ({', '.join(failure.row)}): {failure.error}: {failure.message}"
        for failure in failures[:_SHOWN_FAILURES]
    ]
    lines.append("What was re-wrapped stays so; the next upgrade goes on with the rest")
    return "; ".join(lines)
