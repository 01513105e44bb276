"""Archived waveforms, vital signs and ECG strips."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "waveform_archive",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("stream_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("leads", sa.Text(), nullable=False),
        sa.Column("sample_rate_mhz", sa.Integer(), nullable=False),
        sa.Column("lsb_nv", sa.Integer(), nullable=False),
        sa.Column("filter", sa.String(length=200), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("context_version", sa.BigInteger(), nullable=False),
        sa.Column("opened_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_waveform_archive_consult_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waveform_archive")),
    )
    op.create_index("ix_waveform_archive_consult", "waveform_archive", ["consult_id", "patient_id"])
    op.create_index(op.f("ix_waveform_archive_closed_at_ms"), "waveform_archive", ["closed_at_ms"])
    op.create_table(
        "vital_sign",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("context_version", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.String(length=16), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_vital_sign_consult_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vital_sign")),
    )
    op.create_index("ix_vital_sign_time", "vital_sign", ["consult_id", "patient_id", "at_us"])
    op.create_table(
        "ecg_snapshot",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("archive_id", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("ordered", sa.Text(), nullable=False),
        sa.Column("stored", sa.Text(), nullable=True),
        sa.Column("frames", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_ecg_snapshot_consult_id")),
        sa.ForeignKeyConstraint(["archive_id"], ["waveform_archive.id"], name=op.f("fk_ecg_snapshot_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ecg_snapshot")),
    )
    op.create_index(op.f("ix_ecg_snapshot_consult_id"), "ecg_snapshot", ["consult_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("ecg_snapshot")
    op.drop_table("vital_sign")
    op.drop_table("waveform_archive")
