"""Lets the rows of one flush wait for its end, to be sealed in one batch a table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.orm import Mapper, Session, object_session

from sqlalchemy_kmsenv.columns.late_sealing import seal_waiting
from sqlalchemy_kmsenv.columns.ledger import ledger_of, open_ledger
from sqlalchemy_kmsenv.columns.plan import encrypted_columns

_INFO_KEY = "sqlalchemy_kmsenv.flushing"


def listen() -> None:
    """Follow every flush; called once, when the package is imported."""
    event.listen(Mapper, "before_insert", _before_insert)
    event.listen(Session, "after_flush", _after_flush)
    event.listen(Session, "after_soft_rollback", _after_rollback)


def _before_insert(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    tables = (each for each in mapper.tables if isinstance(each, Table))
    if not any(map(encrypted_columns, tables)):
        return
    ledger = ledger_of(connection)
    session = object_session(target)
    if session is not None and not ledger.flushing:
        ledger.flushing = True
        session.info.setdefault(_INFO_KEY, []).append(connection)


def _after_flush(session: Session, _: Any) -> None:
    connections: list[Connection] = session.info.pop(_INFO_KEY, [])
    for connection in connections:
        ledger_of(connection).flushing = False
    for connection in connections:
        seal_waiting(connection)


def _after_rollback(session: Session, _: Any) -> None:
    for connection in session.info.pop(_INFO_KEY, []):
        ledger = open_ledger(connection)
        if ledger is not None:
            ledger.flushing = False
