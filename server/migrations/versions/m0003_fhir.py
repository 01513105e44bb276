"""The FHIR store with its index tables, and the authorization server.

What was one table of all versions becomes the present version of each resource
and the replaced ones. Index rows are not made here: `server.record.aio.reindex`
makes them at the next start, because the rules they follow change with the program.
"""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - statements are put together from constants of this file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    _new_tables()
    op.execute(
        "INSERT INTO fhir_version (type, id, version, patient_id, json, written_at_ms) "
        "SELECT type, id, version, patient_id, json, written_at_ms FROM fhir_resource"
    )
    op.drop_table("fhir_resource")
    _resource_table()
    op.execute(
        "INSERT INTO fhir_resource (type, id, version, deleted, patient_id, owner, part, low_us, category, test, json, "
        "written_at_ms) SELECT type, id, version, false, patient_id, '', 0, 0, '', false, json, written_at_ms "
        f"FROM fhir_version WHERE {_PRESENT} ORDER BY written_at_ms, type, id"
    )
    op.execute(f"DELETE FROM fhir_version WHERE {_PRESENT}")
    op.execute(
        "INSERT INTO fhir_store (id, index_version) "
        "SELECT 1, CASE WHEN EXISTS (SELECT 1 FROM fhir_resource) THEN 0 ELSE 1 END"
    )


_PRESENT = (
    "version = (SELECT max(newest.version) FROM fhir_version AS newest "
    "WHERE newest.type = fhir_version.type AND newest.id = fhir_version.id)"
)


def downgrade() -> None:
    """Take back; deletions and what the old table did not know are lost."""
    op.execute(
        "INSERT INTO fhir_version (type, id, version, patient_id, json, written_at_ms) "
        "SELECT type, id, version, patient_id, json, written_at_ms FROM fhir_resource"
    )
    op.drop_table("fhir_resource")
    op.create_table(
        "fhir_resource",
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("date", sa.String(length=40), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("written_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("type", "id", "version", name=op.f("pk_fhir_resource")),
    )
    op.create_index("ix_fhir_resource_search", "fhir_resource", ["patient_id", "type", "current", "category"])
    op.execute(
        "INSERT INTO fhir_resource (type, id, version, current, patient_id, category, code, date, test, json, "
        f"written_at_ms) SELECT type, id, version, {_PRESENT}, patient_id, '', '', '', false, json, written_at_ms "
        "FROM fhir_version WHERE json <> ''"
    )
    for table in ("smart_token", "smart_launch", "smart_grant", "smart_client", "fhir_version", "fhir_token",
                  "fhir_string", "fhir_store", "fhir_date"):  # fmt: skip
        op.drop_table(table)


def _resource_table() -> None:
    op.create_table(
        "fhir_resource",
        sa.Column("res", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("part", sa.BigInteger(), nullable=False),
        sa.Column("low_us", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("written_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("res", name=op.f("pk_fhir_resource")),
    )
    op.create_index("ix_fhir_resource_news", "fhir_resource", ["owner", "written_at_ms", "res"], unique=False)
    op.create_index("ix_fhir_resource_patient", "fhir_resource", ["patient_id", "type", "res"], unique=False)
    op.create_index("ux_fhir_resource_id", "fhir_resource", ["type", "id"], unique=True)


def _new_tables() -> None:
    op.create_table(
        "fhir_date",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("res", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("low_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("high_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key", "part", "res", "low_us", "high_us", name=op.f("pk_fhir_date")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fhir_store",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhir_store")),
    )
    op.create_table(
        "fhir_string",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("res", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("exact", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key", "part", "text", "res", "exact", name=op.f("pk_fhir_string")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fhir_token",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("low_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("res", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("high_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("system", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key", "part", "low_us", "res", "high_us", "system", name=op.f("pk_fhir_token")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fhir_version",
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("written_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("type", "id", "version", name=op.f("pk_fhir_version")),
    )
    op.create_table(
        "smart_client",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("hospital_id", sa.String(length=64), nullable=True),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("launch_uri", sa.Text(), nullable=False),
        sa.Column("jwks", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["hospital_id"], ["hospital.id"], name=op.f("fk_smart_client_hospital_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_smart_client")),
    )
    op.create_table(
        "smart_grant",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=True),
        sa.Column("credential", sa.String(length=64), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("consult_id", sa.String(length=64), nullable=True),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=200), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["smart_client.id"], name=op.f("fk_smart_grant_client_id")),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_smart_grant_consult_id")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_smart_grant_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_smart_grant")),
    )
    op.create_index(op.f("ix_smart_grant_client_id"), "smart_grant", ["client_id"], unique=False)
    op.create_index(op.f("ix_smart_grant_expires_at_ms"), "smart_grant", ["expires_at_ms"], unique=False)
    op.create_index(op.f("ix_smart_grant_person_id"), "smart_grant", ["person_id"], unique=False)
    op.create_table(
        "smart_launch",
        sa.Column("launch_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("consult_id", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["smart_client.id"], name=op.f("fk_smart_launch_client_id")),
        sa.ForeignKeyConstraint(["consult_id"], ["consult.id"], name=op.f("fk_smart_launch_consult_id")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_smart_launch_person_id")),
        sa.PrimaryKeyConstraint("launch_hash", name=op.f("pk_smart_launch")),
    )
    op.create_index(op.f("ix_smart_launch_expires_at_ms"), "smart_launch", ["expires_at_ms"], unique=False)
    op.create_table(
        "smart_token",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("grant_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["grant_id"], ["smart_grant.id"], name=op.f("fk_smart_token_grant_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_smart_token")),
    )
    op.create_index(op.f("ix_smart_token_expires_at_ms"), "smart_token", ["expires_at_ms"], unique=False)
    op.create_index(op.f("ix_smart_token_grant_id"), "smart_token", ["grant_id"], unique=False)
