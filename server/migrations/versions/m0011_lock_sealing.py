"""What the lock keeps at the hub is sealed: which key sealed a row, and which keys there were.

Rows that are there name no key and are read as they are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ADDED = (("lock_outbox", "sealed_with"), ("lock_file", "instance"), ("lock_file", "sealed_with"))


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "lock_key",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lock_key")),
    )
    for table, name in _ADDED:
        op.add_column(table, sa.Column(name, sa.String(length=64), nullable=False, server_default=""))


def downgrade() -> None:
    """Take back.

    Raises:
        RuntimeError: something is sealed, which the version before cannot open.
    """
    sealed = sa.text(
        "SELECT (SELECT count(*) FROM lock_outbox WHERE sealed_with != '')"
        " + (SELECT count(*) FROM lock_file WHERE sealed_with != '')"
    )
    if op.get_bind().execute(sealed).scalar_one():
        raise RuntimeError("The lock's rows are sealed: the version before could not read them.")
    for table, name in reversed(_ADDED):
        with op.batch_alter_table(table) as batch:
            batch.drop_column(name)
    op.drop_table("lock_key")
