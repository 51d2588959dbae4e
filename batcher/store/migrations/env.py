"""Alembic's environment: one connection, handed over by ``batcher.store.schema``."""

from __future__ import annotations

from alembic import context

from batcher.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
