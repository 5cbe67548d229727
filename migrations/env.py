"""Alembic's environment for examples/locations.

A key is needed by migrations that re-wrap rows, and by no other:
``alembic -x kms=aws-kms:///alias/location upgrade head``.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import create_engine, pool

from examples.locations.models import APP, Base
from sqlalchemy_kmsenv import Keyring, attach_keyrings

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


def _attach_keyring() -> None:
    uri = context.get_x_argument(as_dictionary=True).get("kms")
    if uri is not None:
        attach_keyrings(target_metadata, Keyring(uri, context=APP))


def _run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise ValueError("alembic.ini gives no sqlalchemy.url")
    if context.is_offline_mode():
        _configure(url=url, literal_binds=True, dialect_opts={"paramstyle": "named"})
        return
    _attach_keyring()
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        _configure(connection=connection)


_run()
