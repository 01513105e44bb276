"""Who saw what of a consult is found by the consult and the kind of row, however long the log has become."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_event_consult_kind", "event", ["consult_id", "kind", "seq"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_event_consult_kind", "event")
