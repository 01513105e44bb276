"""Topics of the FHIRcast hub."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "fhircast_topic",
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_fhircast_topic_consult_id")),
        sa.PrimaryKeyConstraint("consult_id", name=op.f("pk_fhircast_topic")),
        sa.UniqueConstraint("topic", name=op.f("uq_fhircast_topic_topic")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("fhircast_topic")
