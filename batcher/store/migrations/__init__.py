"""Alembic migrations, run by ``batcher.store.schema`` on the connection that it is given."""
