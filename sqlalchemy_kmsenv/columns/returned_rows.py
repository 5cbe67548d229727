"""RETURNING of an INSERT whose rows are sealed once the database has said their keys.

Its rows come with empty cells. They are taken from the driver before SQLAlchemy makes a
result of them, sealed, and each cell gets the envelope that the UPDATE has put there.

Takes ``post_exec`` and ``fetchall_for_returning`` of the execution context for one execution,
and uses its ``_insertmanyvalues_rows``, ``_num_sentinel_cols`` and ``cursor_fetch_strategy``, and
``_result_columns`` of the compiled statement; seen on 2.0.36 and 2.1.9
(``tests/columns/test_returning.py`` holds them to it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, FromClause, func, select
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from sqlalchemy_kmsenv.columns.encrypted import Encrypted
from sqlalchemy_kmsenv.columns.insert_clauses import returns_rows
from sqlalchemy_kmsenv.columns.late_sealing import learn, seal_at_once
from sqlalchemy_kmsenv.columns.ledger import LateRows, ledger_of
from sqlalchemy_kmsenv.columns.marks import late_rows_of
from sqlalchemy_kmsenv.columns.outputs import is_encrypted, unlabelled
from sqlalchemy_kmsenv.columns.places import asks_for_null
from sqlalchemy_kmsenv.columns.refusal import UnboundValueError

_LAST_KEY = {
    "sqlite": func.last_insert_rowid(),
    "mysql": func.last_insert_id(),
    "mariadb": func.last_insert_id(),
}
"""The key of the row that this connection has inserted last."""


def sending(
    connection: Connection,
    cursor: Any,
    _: str,
    __: Any,
    context: ExecutionContext,
    ___: bool,
) -> None:
    """A ``before_cursor_execute`` listener: an INSERT of rows to be sealed later is sent.

    Raises:
        UnboundValueError: it returns what depends on a cell, or does not return the key.
    """
    rows = late_rows_of(context.invoked_statement)
    if rows is None:
        return
    if rows.sent is None:
        try:
            _take_returned(connection, context, rows)
        except UnboundValueError:
            cursor.close()
            raise
    rows.sent = True


def _take_returned(connection: Connection, context: Any, rows: LateRows) -> None:
    cells = [
        (place, entry.type.binding.column)
        for place, entry in enumerate(context.compiled._result_columns)
        if isinstance(entry.type, Encrypted)
    ]
    if not cells and not returns_rows(context.invoked_statement, explicitly=True):
        return
    for element in context.compiled.effective_returning:
        _refuse_expression(element, rows)
    returned = _Returned(connection, context, rows, cells)
    returned.check()
    returned.take()


class _Returned:
    """The rows that one INSERT returns."""

    def __init__(
        self,
        connection: Connection,
        context: Any,
        rows: LateRows,
        cells: Sequence[tuple[int, Column[Any]]],
    ) -> None:
        self._connection = connection
        self._context = context
        self._rows = rows
        self._cells = cells
        self._places = _key_places(context, rows)
        self._batches: list[int] = []
        self._last_keys: list[Any] = []
        self._post_exec = context.post_exec
        self._fetchall = context.fetchall_for_returning

    def check(self) -> None:
        """Refuse what leaves the keys unknown, while nothing has been sent.

        Raises:
            UnboundValueError: RETURNING has to have the primary key.
        """
        if self._places is not None or self._rows.known_keys is not None:
            return
        known = self._rows.leaves_key and self._connection.dialect.name in _LAST_KEY
        if not known or self._context._num_sentinel_cols:
            names = ", ".join(column.key for column in self._rows.table.primary_key.columns)
            raise UnboundValueError(
                f"this INSERT returns rows of {self._rows.table.name} without their primary key"
                f" ({names}), which the database makes and the encrypted columns are bound to; add"
                " it to returning()"
            )

    def take(self) -> None:
        """Come between the driver and the result, for this execution."""
        self._context.post_exec = self._executed
        self._context.fetchall_for_returning = self._fetch

    def _fetch(self, cursor: Any) -> Sequence[Any]:
        """Of one statement of a batch that SQLAlchemy has made several statements of."""
        fetched: Sequence[Any] = self._fetchall(cursor)
        self._batches.append(len(fetched))
        if self._places is None and self._rows.known_keys is None and fetched:
            self._last_keys.append(self._last_key())
        return fetched

    def _executed(self) -> None:
        """All has been sent: seal the rows, and let the result have them."""
        self._post_exec()
        context = self._context
        many = getattr(context, "_insertmanyvalues_rows", None)
        fetched = self._fetch(context.cursor) if many is None else many
        keys = self._keys(fetched)
        learn(ledger_of(self._connection), self._rows, self._made(len(fetched)), keys)
        sealed = self._filled(fetched, seal_at_once(self._connection, self._rows))
        if many is None:
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                context.cursor, initial_buffer=sealed
            )
        else:
            many[:] = sealed

    def _made(self, count: int) -> Sequence[int]:
        """Which of the rows that were sent are those that were returned."""
        if self._rows.may_skip and len(self._batches) == self._rows.count:
            return [place for place, found in enumerate(self._batches) if found]
        return range(count)

    def _keys(self, fetched: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._places is None:
            known = self._rows.known_keys
            return [(key,) for key in self._last_keys] if known is None else known[: len(fetched)]
        processors = [self._processor(kind, place) for place, kind in self._places]
        return [
            tuple(
                process(row[place]) if process else row[place]
                for process, (place, _) in zip(processors, self._places, strict=True)
            )
            for row in fetched
        ]

    def _processor(self, kind: TypeEngine[Any], place: int) -> Any:
        dialect = self._connection.dialect
        description = self._context.cursor.description
        code = description[place][1] if description else None
        return kind.dialect_impl(dialect).result_processor(dialect, code)

    def _last_key(self) -> Any:
        query = select(_LAST_KEY[self._connection.dialect.name])
        return self._connection.execute(query).scalar_one()

    def _filled(self, fetched: Sequence[Any], cells: Sequence[Sequence[Any]]) -> list[Any]:
        late = {each.binding.column: i for i, each in enumerate(self._rows.columns)}
        places = [(place, late[column]) for place, column in self._cells if column in late]
        if not places:
            return list(fetched)
        return [_with_cells(row, places, own) for row, own in zip(fetched, cells, strict=True)]


def _with_cells(row: Any, places: Sequence[tuple[int, int]], cells: Sequence[Any]) -> Any:
    values = list(row)
    for place, number in places:
        if values[place] is not None and cells[number] is not None:
            # A packed cell is what names the row, and then the envelope, which was empty.
            values[place] = bytes(values[place]) + cells[number].stored
    return tuple(values)


def _key_places(context: Any, rows: LateRows) -> list[tuple[int, TypeEngine[Any]]] | None:
    """Where the parts of the primary key stand in a returned row; None where one does not."""
    places = []
    for column in rows.table.primary_key.columns:
        place = next(
            (
                place
                for place, entry in enumerate(context.compiled._result_columns)
                if any(_is(each, column) for each in entry.objects)
            ),
            None,
        )
        if place is None:
            return None
        places.append((place, column.type))
    return places


def _is(element: Any, column: Column[Any]) -> bool:
    return (
        isinstance(element, Column)
        and element.key == column.key
        and getattr(element.table, "key", None) == column.table.key
    )


def _refuse_expression(element: Any, rows: LateRows) -> None:
    plain = unlabelled(element)
    if isinstance(plain, FromClause) or is_encrypted(plain) or asks_for_null(plain):
        return
    late = {each.binding.column.key for each in rows.columns}
    for part in visitors.iterate(plain):
        key = getattr(part, "key", None)
        if is_encrypted(part) and key in late:
            raise UnboundValueError(
                f"this INSERT returns an expression over {rows.table.name}.{key}, which is"
                " empty until the database has made the key that it is bound to; return the column"
                " itself, or give the key with each row"
            )
