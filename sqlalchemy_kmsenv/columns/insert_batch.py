"""One execution of an INSERT, rows of ``values([...])`` included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Insert, Table
from sqlalchemy import Sequence as KeySequence

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
    with_inline_rows,
)
from sqlalchemy_kmsenv.columns.insert_clauses import (
    has_return_defaults,
    is_inline,
    is_sorted,
    prefixes,
    returns_rows,
)
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError
from sqlalchemy_kmsenv.columns.stored_rows import Key
from sqlalchemy_kmsenv.columns.transactions import Options


class InsertBatch(Batch[Insert]):
    """The rows of ``values([...])`` take the place of parameter sets, and go back there."""

    def __init__(
        self, connection: Connection, statement: Insert, table: Table, rows: Rows, options: Options
    ) -> None:
        self._inline_rows = inline_rows(statement, table)
        self.hides_keys = False
        """Whether it returns keys that the statement itself did not ask for."""
        self.drops_rows = False
        """Whether what it returns is to be told as defaults alone."""
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
        complete = completed(
            columns, self.connection, known, isinsert=True, options=self.options, shown=shown
        )
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
            self._give_default(binding.column, given[0])

    def _give_default(self, column: Column[Any], value: Any) -> None:
        """Of a default that it runs itself SQLAlchemy names the first row's as the column."""
        if column in self.defaulted and column.key not in self._inline_rows[0]:
            self.given[f"{column.key}_m0"] = (column.key, [value])

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

    def tell_as_if_generated(self, key: str) -> None:
        """Let a result tell of a key that was taken ahead what it tells of a generated one."""
        if self._inline_rows or returns_rows(self.statement, explicitly=True):
            return
        one = len(self.rows) == 1
        asked = has_return_defaults(self.statement)
        if one and conflicts(self.statement) and not asked:
            # The row that survives may have another one: nobody gave this one.
            self.given[key] = (key, [None])
            self._return_keys_too(many=False)
        elif self._returns_keys() and (one or asked):
            self.drops_rows = True
            column = self.table.columns[key]
            self.statement = self.statement.return_defaults(column, supplemental_cols=[column])
        elif is_inline(self.statement) or not (one or asked):
            # Of many rows nothing, unless it is asked, and nothing after inline().
            self.given[key] = (key, [None] * len(self.rows))

    def _returns_keys(self) -> bool:
        """Whether SQLAlchemy may have the INSERT return the keys that the server makes."""
        return self.table.implicit_returning and not is_inline(self.statement)

    def known_values(self, column: Column[Any]) -> Sequence[Any]:
        """One value a row: what was found for them, or what they were given."""
        source = self.source(column)
        if column.key in self._changes or source is None:
            return self._changes[column.key]
        return self.values(column, source)

    def known_parts(self) -> dict[str, list[bytes]]:
        """The parts that are known so far, by column key."""
        return dict(self._parts)

    def known_keys(self) -> list[Key] | None:
        """The primary key of each row, where the INSERT gives all of it and makes each row."""
        columns = [self._known_or_none(each) for each in self.table.primary_key.columns]
        known = [values for values in columns if values is not None and None not in values]
        if self.may_skip or not columns or len(known) < len(columns):
            return None
        return list(zip(*known, strict=True))

    def _known_or_none(self, column: Column[Any]) -> Sequence[Any] | None:
        if column.key in self._changes:
            return self._changes[column.key]
        source = self.source(column)
        if source is None or isinstance(source, FromDatabase):
            return None
        values = super().values(column, source)
        return None if any(isinstance(each, FromDatabase) for each in values) else values

    def leaves_key(self) -> bool:
        """Whether the key is one that the database counts up, and the INSERT gives none."""
        keys = list(self.table.primary_key.columns)
        column = self.table.autoincrement_column
        if column is None or len(keys) > 1:
            return False
        counts = self.connection.dialect.supports_sequences
        if counts and isinstance(column.default, KeySequence):
            return False
        source = self.source(column)
        if source is None:
            return True
        return not isinstance(source, FromDatabase) and all_null(super().values(column, source))

    def return_keys(self) -> bool:
        """Let the INSERT say which rows it makes; whether the driver counts rows as before."""
        keys = self.table.primary_key.columns
        many = len(self.rows) > 1
        statement = self.statement
        if returns_rows(statement, explicitly=True):
            if many and not is_sorted(statement):
                if has_return_defaults(statement):
                    statement = statement.return_defaults(*keys, sort_by_parameter_order=True)
                else:
                    statement = statement.returning(sort_by_parameter_order=True)
                self.statement = statement
                return False
            return True
        if self.may_skip and self.connection.dialect.insert_returning:
            self._return_keys_too(many=many)
            return False
        if many and (self.known_keys() is None or has_return_defaults(statement)):
            self.hides_keys = not has_return_defaults(statement)
            self.statement = statement.return_defaults(*keys, sort_by_parameter_order=True)
            return False
        return True

    def _return_keys_too(self, *, many: bool) -> None:
        """Also for SQLite, where SQLAlchemy would ask an upsert for nothing by itself."""
        keys = self.table.primary_key.columns
        self.hides_keys = not has_return_defaults(self.statement)
        self.statement = self.statement.return_defaults(
            *keys, supplemental_cols=keys, sort_by_parameter_order=many
        )

    @property
    def may_skip(self) -> bool:
        """Whether it leaves out rows of which the database has one already."""
        skips = any(not conflict.sets for conflict in conflicts(self.statement))
        return skips or self.ignores()

    def ignores(self) -> bool:
        """Whether it is an INSERT IGNORE."""
        return any("IGNORE" in prefix.upper() for prefix in prefixes(self.statement))

    def result(self) -> tuple[Insert, list[Row]]:
        """The statement and the parameter sets to execute instead."""
        if not self._inline_rows:
            return super().result()
        defaults = {each.key: [row[each.key] for row in self.rows] for each in self.defaulted}
        for each in self.defaulted:
            if each.key not in self._changes:
                self._give_default(each, self.rows[0][each.key])
        return with_inline_rows(self.statement, self.table, {**defaults, **self._changes}), []
