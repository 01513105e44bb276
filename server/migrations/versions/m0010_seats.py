"""Which process has each participant of a consult, and when each process last said that it lives."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Whoever is in a consult now was left there by a process that has ended."""
    op.create_table(
        "process",
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("word", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_process")),
    )
    seat = op.create_table(
        "consult_seat",
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_consult_seat_consult_id")),
        sa.PrimaryKeyConstraint("consult_id", "participant_id", name=op.f("pk_consult_seat")),
    )
    states = op.get_bind().execute(sa.text("SELECT consult_id, snapshot FROM consult_state")).all()
    left = [
        {"consult_id": consult, "participant_id": who, "node": "before"}
        for consult, snapshot in states
        for who in json.loads(snapshot)["participants"]
    ]
    if left:
        op.bulk_insert(seat, left)


def downgrade() -> None:
    """Take back."""
    op.drop_table("consult_seat")
    op.drop_table("process")
