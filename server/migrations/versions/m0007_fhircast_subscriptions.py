"""Subscriptions of outside programs, which outlive the process that they were made in."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "fhircast_subscription",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("endpoint_hash", sa.String(length=64), nullable=False),
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("behind", sa.String(length=16), nullable=True),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_fhircast_subscription_consult_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhircast_subscription")),
        sa.UniqueConstraint("endpoint_hash", name=op.f("uq_fhircast_subscription_endpoint_hash")),
    )
    op.create_index("ix_fhircast_subscription_consult", "fhircast_subscription", ["consult_id"])
    op.create_index("ix_fhircast_subscription_node", "fhircast_subscription", ["node"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("fhircast_subscription")
