"""Devices and their pings."""

import sqlalchemy as sa
from alembic import op

import sqlalchemy_kmsenv

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "locations_devices",
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
    )
    op.create_table(
        "locations_pings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.String(length=40), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "position",
            sqlalchemy_kmsenv.Encrypted(sa.JSON(), scope=["device_id"]),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["device_id"], ["locations_devices.device_id"]),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("locations_pings")
    op.drop_table("locations_devices")
