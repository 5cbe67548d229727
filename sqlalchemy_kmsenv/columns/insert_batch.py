"""One execution of an INSERT, rows of ``values([...])`` included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Insert, Table

from sqlalchemy_kmsenv.columns.batch import Batch, all_null, described
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.client_defaults import completed
from sqlalchemy_kmsenv.columns.conflicts import conflicts
from sqlalchemy_kmsenv.columns.dml import (
    FromDatabase,
    Row,
    Rows,
    Source,
    inline_rows,
    is_inline,
    prefixes,
    returns_rows,
    with_inline_rows,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.transactions import Options, commits_by_itself


class InsertBatch(Batch[Insert]):
    """The rows of ``values([...])`` take the place of parameter sets, and go back there."""

    def __init__(
        self, connection: Connection, statement: Insert, table: Table, rows: Rows, options: Options
    ) -> None:
        self._inline_rows = inline_rows(statement, table)
        if self._inline_rows and rows:
            raise UnboundValueError(
                f"insert({table.name}).values([...]) is executed with parameters as well; give the"
                " rows in one place"
            )
        super().__init__(connection, statement, table, self._inline_rows or rows, options)

    def complete(self) -> None:
        """As for every batch; of ``values([...])`` each row may lack other defaults."""
        if not self._inline_rows:
            super().complete()
            return
        self._add_defaults(lambda column: all(column.key in row for row in self.rows))
        self._refuse_uneven_rows()

    def _completed(self, columns: Sequence[Column[Any]]) -> list[Row]:
        if not self._inline_rows:
            return super()._completed(columns)
        known = [
            {key: value for key, value in row.items() if not isinstance(value, FromDatabase)}
            for row in self.rows
        ]
        shown = self.rows[0].keys()
        complete = completed(columns, self.connection, known, isinsert=True, shown=shown)
        return [{**full, **row} for row, full in zip(self.rows, complete, strict=True)]

    def put(
        self, binding: Binding, source: Source, values: Sequence[Any], given: Sequence[Any]
    ) -> None:
        """Write ``values`` where the statement had the plaintext ``given``."""
        super().put(binding, source, values, given)
        if self._inline_rows:
            key = binding.column.key
            del self.given[key]
            # As SQLAlchemy names the parameters of each row.
            self.given.update({f"{key}_m{i}": (f"{key}_m{i}", [v]) for i, v in enumerate(given)})

    def values(self, column: Column[Any], source: Source) -> list[Any]:
        """One value a row.

        Raises:
            UnboundValueError: the database computes one, or a row lacks it.
        """
        values = super().values(column, source)
        if self._inline_rows and any(isinstance(value, FromDatabase) for value in values):
            raise UnboundValueError(
                f"{described(column)} is set to an SQL expression in values([...]), whose value is"
                " only known to the database; give a Python value"
            )
        return values

    @property
    def has_inline_rows(self) -> bool:
        """Whether its rows stand in ``values([...])``."""
        return bool(self._inline_rows)

    @property
    def sets_constants(self) -> bool:
        """Whether the driver takes parameters behind VALUES; those of MySQL do for one row."""
        several = len(self.rows) > 1 and not self._inline_rows
        return not several or self.connection.dialect.name not in ("mysql", "mariadb")

    @property
    def may_join_rows(self) -> bool:
        """Whether SQLAlchemy or the driver may send several parameter sets as one statement."""
        dialect = self.connection.dialect
        joins = dialect.use_insertmanyvalues and (
            returns_rows(self.statement) or dialect.use_insertmanyvalues_wo_returning
        )
        return joins or not self.sets_constants

    def unmatched(self) -> frozenset[str]:
        """The columns that agree with no row that is there: each is NULL, or a new key."""
        return frozenset(str(each.key) for each in self.table.columns if self._is_unmatched(each))

    def _is_unmatched(self, column: Column[Any]) -> bool:
        source = self.source(column)
        if isinstance(source, FromDatabase):
            return False
        if source is not None and not all_null(super().values(column, source)):
            return False
        made = column.server_default is not None or (column.default is not None and source is None)
        return column is self.table.autoincrement_column or (bool(column.nullable) and not made)

    def known_values(self, column: Column[Any]) -> Sequence[Any]:
        """One value a row: what was found for them, or what they were given."""
        source = self.source(column)
        if column.key in self._changes or source is None:
            return self._changes[column.key]
        return self.values(column, source)

    def known_parts(self) -> dict[str, list[bytes]]:
        """The parts that are known so far, by column key."""
        return dict(self._parts)

    def return_keys(self) -> None:
        """Let the INSERT of many rows return their primary keys, in the order of the rows."""
        if len(self.rows) > 1:
            keys = self.table.primary_key.columns
            self.statement = self.statement.return_defaults(*keys, sort_by_parameter_order=True)

    def ignores(self) -> bool:
        """Whether it is an INSERT IGNORE."""
        return any("IGNORE" in prefix.upper() for prefix in prefixes(self.statement))

    def why_keys_stay_unknown(self) -> str | None:
        """Why the database cannot be asked which rows this INSERT made, and what to do."""
        return next(self._obstacles(), None)

    def _obstacles(self) -> Iterator[str]:
        statement, dialect = self.statement, self.connection.dialect
        if not self.table.primary_key.columns:
            yield "the table has no primary key to ask for; give it with each row"
        if commits_by_itself(self.connection):
            yield (
                "this connection commits each statement by itself, so that a row could stay"
                " without its value; begin a transaction, or give the key with each row"
            )
        if statement.returning_column_descriptions:
            yield (
                "returning() leaves no place to ask for it; leave it out (the result's"
                " inserted_primary_key_rows holds the keys), add the objects to a session, or give"
                " the key with each row"
            )
        if conflicts(statement) or prefixes(statement):
            yield (
                "an INSERT that may skip or replace rows does not say which it made; give the key"
                " with each row"
            )
        if self._inline_rows:
            yield (
                "values([...]) does not return the keys in the order of its rows; execute"
                f" insert({self.table.name}) with the list as its parameters"
            )
        if is_inline(statement) or not self.table.implicit_returning:
            yield (
                "inline() and implicit_returning=False keep it from being asked; leave them out, or"
                " give the key with each row"
            )
        if len(self.rows) > 1 and not dialect.insert_executemany_returning_sort_by_parameter_order:
            yield (
                f"{dialect.name} does not return the keys of many rows; insert them one by one, add"
                " the objects to a session, or give the key with each row"
            )

    def result(self) -> tuple[Insert, list[Row]]:
        """The statement and the parameter sets to execute instead."""
        if not self._inline_rows:
            return super().result()
        defaults = {each.key: [row[each.key] for row in self.rows] for each in self.defaulted}
        return with_inline_rows(self.statement, self.table, {**defaults, **self._changes}), []
