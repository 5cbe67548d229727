"""Bring the positions to the newest key material; tables without rows need no key."""

from alembic import op

import sqlalchemy_kmsenv.alembic_plugin  # noqa: F401  registers op.rewrap_column

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rewrap_column("locations_pings", "position")  # type: ignore[attr-defined]


def downgrade() -> None:
    """Nothing: values read under any material of their KMS key."""
