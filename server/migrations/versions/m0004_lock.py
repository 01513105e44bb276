"""The lock: gateways, enrolment codes, what crossed and what waits to go in."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=64), nullable=nullable)


def _big(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "enrolment_code",
        _key("id"),
        _key("code_hash"),
        sa.Column("kind", sa.String(length=16), nullable=False),
        _key("hospital_id"),
        sa.Column("name", sa.String(length=200), nullable=False),
        _key("created_by", nullable=True),
        _big("created_at_ms"),
        _big("expires_at_ms"),
        _big("used_at_ms", nullable=True),
        _key("subject", nullable=True),
        sa.ForeignKeyConstraint(["hospital_id"], ["hospital.id"], name=op.f("fk_enrolment_code_hospital_id")),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name=op.f("fk_enrolment_code_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_code")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_enrolment_code_code_hash")),
    )
    op.create_table(
        "gateway",
        _key("id"),
        _key("hospital_id"),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("public_key", sa.LargeBinary(length=32), nullable=False),
        _big("enrolled_at_ms"),
        _big("revoked_at_ms", nullable=True),
        _big("connection"),
        _key("stream"),
        _big("received"),
        sa.Column("mark", sa.LargeBinary(length=32), nullable=False),
        _big("outbox_last"),
        _big("outbox_acked"),
        sa.Column("outbox_mark", sa.LargeBinary(length=32), nullable=False),
        _big("connected_at_ms", nullable=True),
        _big("seen_at_ms", nullable=True),
        _key("software"),
        _key("policy"),
        _big("offset_us", nullable=True),
        sa.ForeignKeyConstraint(["hospital_id"], ["hospital.id"], name=op.f("fk_gateway_hospital_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway")),
        sa.UniqueConstraint("public_key", name=op.f("uq_gateway_public_key")),
    )
    op.create_index(op.f("ix_gateway_hospital_id"), "gateway", ["hospital_id"])
    op.create_table(
        "lock_crossing",
        sa.Column("id", BIG_KEY, nullable=False),
        _key("gateway_id"),
        _key("stream"),
        _big("sequence"),
        _big("last"),
        _key("source"),
        _key("kind"),
        _key("key_hash"),
        _big("size_bytes"),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        _key("code"),
        sa.Column("reason", sa.String(length=300), nullable=False),
        _big("made_us"),
        _big("gateway_received_us"),
        _big("gateway_journaled_us"),
        _big("gateway_sent_us"),
        _big("hub_received_us"),
        _big("hub_committed_us"),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_lock_crossing_gateway_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lock_crossing")),
    )
    op.create_index("ux_lock_crossing_number", "lock_crossing", ["gateway_id", "stream", "sequence"], unique=True)
    op.create_index("ix_lock_crossing_key", "lock_crossing", ["gateway_id", "key_hash"])
    op.create_index("ix_lock_crossing_listing", "lock_crossing", ["gateway_id", "id"])
    op.create_table(
        "lock_outbox",
        _key("gateway_id"),
        _big("sequence"),
        _key("source"),
        _key("kind"),
        sa.Column("key", sa.String(length=200), nullable=False),
        _key("media_type"),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        _big("size_bytes"),
        sa.Column("mark", sa.LargeBinary(length=32), nullable=False),
        _big("made_us"),
        _big("queued_us"),
        _big("sent_us", nullable=True),
        _big("gateway_committed_us", nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        _key("code"),
        _big("delivered_us", nullable=True),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_lock_outbox_gateway_id")),
        sa.PrimaryKeyConstraint("gateway_id", "sequence", name=op.f("pk_lock_outbox")),
    )
    op.create_index("ux_lock_outbox_key", "lock_outbox", ["gateway_id", "key"], unique=True)
    op.create_table(
        "lock_question",
        sa.Column("id", BIG_KEY, nullable=False),
        _key("gateway_id"),
        _key("consult_id"),
        sa.Column("actor", sa.String(length=80), nullable=False),
        _key("type"),
        _big("at_ms"),
        _key("code"),
        sa.Column("count", sa.Integer(), nullable=False),
        _big("size_bytes"),
        _big("took_us"),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_lock_question_gateway_id")),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_lock_question_consult_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lock_question")),
    )
    op.create_index("ix_lock_question_listing", "lock_question", ["gateway_id", "id"])
    op.create_table(
        "lock_file",
        _key("id"),
        _key("gateway_id"),
        _key("stream"),
        _big("sequence"),
        _key("patient_id", nullable=True),
        _key("kind"),
        _key("media_type"),
        sa.Column("about", sa.Text(), nullable=False),
        _key("sha256"),
        _big("size_bytes"),
        _big("made_us"),
        _big("at_ms"),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_lock_file_gateway_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lock_file")),
    )
    op.create_index(op.f("ix_lock_file_patient_id"), "lock_file", ["patient_id"])


def downgrade() -> None:
    """Take back."""
    for table in ("lock_file", "lock_question", "lock_outbox", "lock_crossing", "gateway", "enrolment_code"):
        op.drop_table(table)
