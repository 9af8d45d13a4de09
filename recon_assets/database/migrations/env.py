"""Alembic's entry point: runs the revisions on the connection of schema.py, inside its transaction."""

from alembic import context

from recon_assets.database.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
