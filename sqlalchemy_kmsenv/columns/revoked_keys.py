"""A table of revoked data keys, for processes that nobody restarts."""

from __future__ import annotations

import datetime

from sqlalchemy import Column, DateTime, Engine, MetaData, String, Table, insert, select
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring.revocations import checked_commitment


class RevokedDataKeys:
    """What ``Keyring(revoked_from=...)`` reads: the commitments in a table.

    ``engine`` is one of its own: the table is read while results of other engines are
    being read, and a pool that both share may have no connection left. Whoever may write
    to the table can empty it: give that right to nobody who writes values, or use
    ``Keyring(revoked=[...])``, a list in code.

    Raises:
        ConfigurationError: the engine has one connection for all of its users.
    """

    def __init__(
        self, engine: Engine, *, table: str = "kmsenv_revoked_data_keys", schema: str | None = None
    ) -> None:
        if isinstance(engine.pool, (StaticPool, SingletonThreadPool)):
            raise ConfigurationError(
                f"RevokedDataKeys needs an engine of its own: {engine!r} has one connection for"
                " all, whose transactions would end when the table is read"
            )
        self._engine = engine
        self._table = Table(
            table,
            MetaData(),
            Column("commitment", String(64), primary_key=True),
            Column("revoked_at", DateTime, nullable=False),
            Column("reason", String(200), nullable=False),
            schema=schema,
        )

    def __repr__(self) -> str:
        return f"RevokedDataKeys({self._engine!r}, table={self._table.fullname!r})"

    def __call__(self) -> list[str]:
        """All commitments in the table."""
        with self._engine.connect() as connection:
            return list(connection.scalars(select(self._table.c.commitment)))

    def create(self) -> None:
        """Make the table, unless it is there."""
        self._table.create(self._engine, checkfirst=True)

    def add(self, commitment: str, *, reason: str = "") -> None:
        """Revoke a data key; other processes find it when they next look one up.

        Raises:
            ConfigurationError: no commitment (64 hexadecimal digits).
        """
        name = checked_commitment(commitment).hex()
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        with self._engine.begin() as connection:
            column = self._table.c.commitment
            if connection.scalar(select(column).where(column == name)) is None:
                row = {"commitment": name, "revoked_at": now, "reason": reason[:200]}
                connection.execute(insert(self._table), row)
