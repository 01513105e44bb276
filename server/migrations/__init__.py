"""Alembic migrations, applied by `server.storage.schema` with an open connection."""
