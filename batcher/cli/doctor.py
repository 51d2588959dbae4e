"""``batcher doctor``: whether everything that a run needs is there."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from batcher.cli.output import echo_json, echo_table
from batcher.errors import BatcherError, ConfigurationError, KeyValueError
from batcher.settings import Settings, find_config

if TYPE_CHECKING:
    from batcher.catalog.models import Model, ProviderInfo
    from batcher.runtime import Runtime

CHECK_TIMEOUT_S: Final = 5.0
_NO_LIST: Final = (404, 405, 501)
EXIT_CONFIGURATION: Final = 3
EXIT_DEPENDENCY: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``ok`` None is neither good nor bad: a provider that nobody uses."""

    part: str
    name: str
    ok: bool | None
    message: str

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {"part": self.part, "name": self.name, "ok": self.ok, "message": self.message}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Check keys, endpoints, store and models."""
    from batcher.runtime import Runtime

    settings = ctx.find_object(Settings)
    assert settings is not None
    runtime = Runtime(settings)
    findings = [_settings(settings, ctx.find_root().params.get("config")), *_store(runtime)]
    providers = asyncio.run(_providers(runtime))
    unreachable = {finding.name for finding in providers if finding.ok is False}
    tiers = [_tier(runtime, tier, unreachable) for tier in runtime.catalog.tiers]
    findings += [*providers, *tiers, _local(settings), _broker(settings), *_workers(runtime)]
    code = _exit_code(findings)
    if as_json:
        echo_json({"ok": code == 0, "findings": [finding.to_json() for finding in findings]})
    else:
        signs = {True: "ok", False: "WRONG", None: "-"}
        echo_table([(signs[found.ok], found.part, found.name, found.message) for found in findings])
    return code


def _exit_code(findings: list[Finding]) -> int:
    """0 if the store is in order and a tier is usable; else 5 for what is down, 3 for what is not set up."""
    if any(found.part == "store" and found.ok is False for found in findings):
        return EXIT_DEPENDENCY
    if any(found.part == "tier" and found.ok for found in findings):
        return 0
    down = any(found.part == "provider" and found.ok is False for found in findings)
    return EXIT_DEPENDENCY if down else EXIT_CONFIGURATION


def _settings(settings: Settings, named: Any) -> Finding:
    path = named or find_config(settings.home)
    return Finding("settings", "file", True, str(path) if path else "none: the defaults hold (batcher init)")


def _store(runtime: Runtime) -> list[Finding]:
    from sqlalchemy import func, select
    from sqlalchemy.engine import make_url

    from batcher.store.item_counts import count_all_items
    from batcher.store.schema import SCHEMA_HEAD
    from batcher.store.tables import jobs

    try:
        with runtime.store.read() as connection:
            count = connection.execute(select(func.count()).select_from(jobs)).scalar_one()
            documents = count_all_items(connection)
    except BatcherError as error:
        return [Finding("store", "database", False, str(error))]
    url = make_url(runtime.settings.store_url())
    size = ""
    if runtime.store.is_sqlite and url.database:
        size = f", {_size_mb(url.database):,.1f} MB"
    where = url.render_as_string(hide_password=True)
    about = f"{where}, schema {SCHEMA_HEAD}{size}, {count:,} jobs, {documents:,} items"
    return [Finding("store", "database", True, about)]


def _size_mb(database: str) -> float:
    from pathlib import Path

    return sum(file.stat().st_size for file in Path(database).parent.glob(Path(database).name + "*")) / 1e6


async def _providers(runtime: Runtime) -> list[Finding]:
    """All endpoints at once."""
    try:
        hosted = [info for info in runtime.catalog.providers.values() if info.kind != "local"]
        return await asyncio.gather(*(_provider(runtime, info) for info in hosted))
    finally:
        await runtime.aclose()


async def _provider(runtime: Runtime, info: ProviderInfo) -> Finding:
    variable = info.api_key_env
    try:
        if variable is not None and runtime.settings.key(variable) is None:
            return Finding("provider", info.name, None, f"no key: {variable} is not set")
    except KeyValueError as error:
        return Finding("key", info.name, False, str(error))
    if variable is None and not _is_used(runtime, info.name):
        return Finding("provider", info.name, None, "needs no key; no model of a tier uses it")
    key = f"{variable} is set" if variable else "needs no key"
    ok, answer = await _answer(runtime, info)
    return Finding("provider", info.name, ok, f"{key}, {answer}")


async def _answer(runtime: Runtime, info: ProviderInfo) -> tuple[bool | None, str]:
    """Whether an endpoint lists its models, and what it says; None: it answers, but has no such list."""
    from batcher.providers.base import ProviderError

    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return True, await runtime.provider(info.name).check()
    except TimeoutError:
        return False, f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    except ProviderError as error:
        if error.status not in _NO_LIST:
            return False, str(error)
        hint = "if its calls fail too, see that its base URL is right (most end in /v1)"
        return None, f"answers, but shows no list of models; {hint}"
    except BatcherError as error:
        return False, str(error)


def _is_used(runtime: Runtime, provider: str) -> bool:
    names = {name for names in runtime.catalog.tiers.values() for name in names}
    return any(model.provider == provider for name, model in runtime.catalog.models.items() if name in names)


def _tier(runtime: Runtime, tier: str, unreachable: set[str]) -> Finding:
    from batcher.planning.choice import pick_model

    try:
        model = pick_model(runtime.catalog, tier, None, runtime.is_usable)
    except ConfigurationError as error:
        return Finding("tier", tier, None, str(error))
    data = _where_text_goes(runtime, model)
    about = f"uses {model.name} ({data})" if data else f"uses {model.name}"
    if model.provider in unreachable:
        return Finding("tier", tier, False, f"{about}, which cannot be reached")
    if runtime.catalog.providers[model.provider].kind == "local":
        ready = _local(runtime.settings)
        return Finding("tier", tier, ready.ok, f"{about}; {ready.message}")
    return Finding("tier", tier, True, about)


def _where_text_goes(runtime: Runtime, model: Model) -> str:
    """The vendor and country of the catalogue, or the host that the user's own address names."""
    info = runtime.catalog.providers[model.provider]
    own = runtime.settings.providers.get(info.name)
    moved = runtime.settings.secret(info.base_url_env) if info.base_url_env else None
    moved = moved or (own.base_url if own else None)
    return f"text goes to {urlsplit(moved).netloc.rpartition('@')[2] or moved}" if moved else model.data


def _local(settings: Settings) -> Finding:
    """The local tier is usable when it is installed: its weights are fetched when they are asked for."""
    from batcher.providers.local.known import KNOWN
    from batcher.providers.local.options import local_options
    from batcher.providers.local.weights import NOT_INSTALLED, have_weights

    if importlib.util.find_spec("xllamacpp") is None:
        return Finding("local", "weights", None, NOT_INSTALLED)
    options = local_options(settings, {})
    here = [name for name in {**KNOWN, **settings.local_models} if have_weights(name, options)]
    if here:
        return Finding("local", "weights", True, f"weights of {', '.join(here)}")
    return Finding("local", "weights", None, "no weights yet; batcher models pull smollm2-135m fetches them")


def _broker(settings: Settings) -> Finding:
    from batcher.dispatch.broker import check_broker

    if settings.broker_url is None:
        return Finding("broker", "celery", None, "none: submit runs the work itself")
    try:
        check_broker(settings)
    except ConfigurationError as error:
        return Finding("broker", "celery", False, str(error))
    url = settings.limiter_url()
    if url is None:
        return Finding("broker", "celery", None, "is no Redis: rate limits are not shared")
    try:
        _ping(url)
    except ValueError:
        wrong = "broker_url cannot be read: it looks like redis://HOST:6379/0"
        return Finding("broker", "celery", False, wrong)
    except OSError as error:
        away = f"Redis does not answer ({error}): each process holds the rate limits by itself"
        return Finding("broker", "celery", False, away)
    return Finding("broker", "celery", True, "Redis answers: processes share their rate limits there")


def _workers(runtime: Runtime) -> list[Finding]:
    """Who would do the work, where there is a broker."""
    from batcher.dispatch.celery_app import app_of
    from batcher.dispatch.waking import ask_workers

    if runtime.settings.broker_url is None:
        return []
    try:
        found = ask_workers(app_of(runtime.settings, runtime.catalog))
    except BatcherError as error:
        return [Finding("workers", "celery", False, str(error))]
    tiers = sorted({tier for one in found for tier in one.get("tiers", ())})
    if not tiers:
        return [Finding("workers", "celery", False, "none answers. Start one: batcher worker --beat")]
    many = "one process answers" if len(found) == 1 else f"{len(found)} processes answer"
    return [Finding("workers", "celery", True, f"{many}, on {', '.join(tiers)}")]


def _ping(url: str) -> None:
    """Ask a Redis whether it is there.

    Raises:
        OSError: if it is not.
        ValueError: if the URL is none. Its message may hold a part of the password.
    """
    from redis import Redis, RedisError

    try:
        with Redis.from_url(
            url, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=CHECK_TIMEOUT_S
        ) as client:
            client.ping()
    except RedisError as error:
        raise OSError(" ".join(str(error).split()).rstrip(".") or type(error).__name__) from None
