"""Alembic's environment for examples/locations; it needs no keyring and makes no KMS call."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import create_engine, pool

from examples.locations.models import Base

target_metadata = Base.metadata


def _is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave the tables of other programs in the same database alone."""
    return kind != "table" or name in target_metadata.tables


def _configure(**where: Any) -> None:
    context.configure(
        target_metadata=target_metadata,
        include_name=_is_ours,
        version_table="locations_alembic_version",
        **where,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise ValueError("alembic.ini gives no sqlalchemy.url")
    if context.is_offline_mode():
        _configure(url=url, literal_binds=True, dialect_opts={"paramstyle": "named"})
        return
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        _configure(connection=connection)


_run()
