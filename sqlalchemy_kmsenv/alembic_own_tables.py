"""Autogenerate leaves out the tables that jobs keep; ``alembic_plugin`` registers it.

No model has them, so that a migration would drop them: with a job under way, what it has done.
"""

from __future__ import annotations

from typing import Any

from alembic import util
from alembic.autogenerate import comparators
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops

from sqlalchemy_kmsenv.rewrap.checkpoints import TableCheckpoint
from sqlalchemy_kmsenv.rewrap.renewals import TABLE_NAME

__all__ = ["register"]

OWN_TABLES = frozenset({TABLE_NAME, TableCheckpoint().table})


def register() -> None:
    """Let autogenerate drop none of them."""
    # Before 1.18 a comparator runs behind those that were there before; since, it says so.
    last: Any = getattr(util, "DispatchPriority", None)
    options = {} if last is None else {"priority": last.LAST}
    comparators.dispatch_for("schema", **options)(_keep_own_tables)


def _keep_own_tables(_: AutogenContext, upgrade: ops.UpgradeOps, __: Any) -> None:
    dropped = {
        (each.table_name, each.schema)
        for each in upgrade.ops
        if isinstance(each, ops.DropTableOp) and each.table_name in OWN_TABLES
    }
    upgrade.ops[:] = [
        each
        for each in upgrade.ops
        if not isinstance(each, ops.DropTableOp | ops.ModifyTableOps)
        or (each.table_name, each.schema) not in dropped
    ]
