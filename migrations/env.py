"""Run by Alembic, which has no other way in: migrates the catalog on the connection that featuredb hands it."""

from __future__ import annotations

from alembic import context

from featuredb.store.catalog import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can undo a CREATE TABLE: a revision and its record are one transaction, or neither happened.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
