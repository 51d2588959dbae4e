"""``batcher db``: the store's schema."""

from __future__ import annotations

from contextlib import closing

import click

from batcher.cli.output import note
from batcher.settings import Settings


@click.group("db")
def db() -> None:
    """Show or upgrade the schema of the store."""


@db.command("upgrade")
@click.pass_obj
def upgrade(settings: Settings) -> None:
    """Bring the store to the schema of this version; stop the workers of an older version first."""
    from batcher.store.database import Store
    from batcher.store.schema import SCHEMA_HEAD, schema_version, upgrade_schema

    with closing(Store(settings.store_url(), home=settings.home)) as store:
        with store.read() as connection:
            before = schema_version(connection)
        upgrade_schema(store)
    note(f"The store is at schema {SCHEMA_HEAD}" + (", as before." if before == SCHEMA_HEAD else "."))


@db.command("version")
@click.pass_obj
def version(settings: Settings) -> None:
    """The schema of the store, and the one that this version needs."""
    from batcher.cli.output import say
    from batcher.store.database import Store
    from batcher.store.schema import SCHEMA_HEAD, schema_version

    with closing(Store(settings.store_url(), home=settings.home)) as store, store.read() as connection:
        found = schema_version(connection)
    say(f"store {found or 'empty'}, needed {SCHEMA_HEAD}")
