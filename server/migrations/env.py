"""Alembic's entry point: always with a connection that `server.storage.schema` opened."""

from alembic import context

from server.storage.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a table in place; batch mode copies it.
    render_as_batch=True,
    # Our connections emit BEGIN themselves (database.py), so DDL is transactional on SQLite too.
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
