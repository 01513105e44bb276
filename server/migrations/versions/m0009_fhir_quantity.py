"""Quantities of observations are searched by; their rows are made at the next start, with all index rows."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    numbers = ("key", "part", "res", "low", "high", "system", "code", "unit")
    op.create_table(
        "fhir_quantity",
        *(
            sa.Column(
                name, sa.Double() if name in ("low", "high") else sa.BigInteger(), autoincrement=False, nullable=False
            )
            for name in numbers
        ),
        sa.PrimaryKeyConstraint(*numbers, name=op.f("pk_fhir_quantity")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Take back; the version before makes its own index rows."""
    op.drop_table("fhir_quantity")
