"""Imports what commands and runs use, in the process that is forked: see ``tests.support.forked``."""

from __future__ import annotations

import gc
import importlib
import pkgutil
from typing import Final

import batcher

_USED_LATE: Final = (
    "alembic.command",
    "alembic.ddl.sqlite",
    "chardet",
    "httpcore2",
    "jinja2.sandbox",
    "mako.template",
    "pebble",
    "psycopg",
    "rich.live",
    "rich.progress",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)

for module in pkgutil.walk_packages(batcher.__path__, "batcher."):
    if not module.name.endswith("__main__") and ".migrations." not in module.name:
        importlib.import_module(module.name)
for name in _USED_LATE:
    importlib.import_module(name)
# Children would copy every page that holds what their collector looks at.
gc.freeze()
