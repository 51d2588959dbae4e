"""One limiter for the workers of all processes and machines: the state is in Redis, on Redis's own clock.

Each key's state is changed by short Lua scripts, so that no two processes can be given the same permit. If
Redis is lost in mid-run, each process goes on with an equal part of every limit until it is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from batcher.limits.base import LaneLimiter
from batcher.limits.exchange import Ask, Left, Reply, observation_to_json, time_to_live_s
from batcher.limits.local_share import LocalShare
from batcher.limits.memory import LimitsOf, quotas_by_key
from batcher.limits.quotas import Dimension, Quota
from batcher.limits.shared_lane import SharedLane

TIMEOUT_S: Final = 1.0
"""A Redis that has not answered for so long is lost."""
RETURN_S: Final = 0.25
LONGEST_RETURN_S: Final = 10.0
"""How often a lost Redis is tried: at first, and at last if it is lost again and again."""

_log = logging.getLogger(__name__)


class RedisLimiter(LaneLimiter[SharedLane]):
    """A ``Limiter`` that all processes with the same Redis and namespace share.

    Args:
        url: where Redis is, ``redis://host:6379/0``.
        limits: see ``MemoryLimiter``.
        ceilings: see ``MemoryLimiter``.
        namespace: what the names of its Redis keys begin with.
        expected_processes: how many share it, for the case that Redis is away before they could be counted.
        notify: told in a sentence when Redis is lost, and when it is back. Also logged.
    """

    def __init__(
        self,
        url: str,
        limits: LimitsOf,
        *,
        ceilings: LimitsOf | None = None,
        namespace: str = "batcher:limits",
        expected_processes: int = 1,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._quotas_of = quotas_by_key(limits, ceilings)
        self._namespace = namespace
        self._expected_processes = expected_processes
        self._notify = notify
        self._process = uuid.uuid4().hex[:12]
        self._redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        place = self._redis.connection_pool.connection_kwargs
        self._name = f"Redis at {place.get('host') or place.get('path')}:{place.get('port', '')}".rstrip(":")
        self._scripts = {name: _Script(name) for name in ("take", "observe", "cool_down")}
        self._shares: dict[str, LocalShare] = {}
        self._is_lost = False
        self._return_s = RETURN_S
        self._back_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def processes(self, key: str) -> int:
        """How many processes use a key, this one included, when they were last counted."""
        return self._lane(key).alive

    def trouble(self) -> str:
        """Why every process goes by itself just now; "" if Redis is there."""
        return f"{self._name} is away" if self._is_lost else ""

    async def aclose(self) -> None:
        """Give back what is held and close the connection."""
        await asyncio.gather(*(lane.aclose() for lane in self._lanes.values()))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._redis.aclose()

    async def grant(self, key: str, ask: Ask) -> Reply:
        """Answer a lane: from Redis, or from this process's part where Redis is away."""
        if not self._is_lost:
            if key in self._shares:
                ask = replace(ask, resumed=True)
            try:
                text = await self._run("take", self._keys(key, ask.quotas), ask.to_json(self._process))
            except (RedisError, OSError) as error:
                self._lose(error)
            else:
                self._shares.pop(key, None)
                return Reply.from_json(text, ask.quotas)
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = LocalShare(self._lane(key).alive)
        return share.grant(ask, asyncio.get_running_loop().time())

    def share_observed(self, key: str, quotas: Mapping[Dimension, Quota], observed: str, left: Left) -> None:
        """Tell all processes what headers said."""
        told = observation_to_json(quotas, observed, left)
        self._in_background(self._tell("observe", self._keys(key, quotas), told))

    def share_cool_down(self, key: str, seconds: float, reason: str) -> None:
        """Tell all processes to admit nothing for a while."""
        keep_s = int(max(time_to_live_s({}), 2 * seconds))
        self._in_background(self._tell("cool_down", self._keys(key, {})[:1], seconds, reason, keep_s))

    def _new_lane(self, key: str) -> SharedLane:
        return SharedLane(key, self._quotas_of(key), self, self._expected_processes)

    def _keys(self, key: str, quotas: Mapping[Dimension, Quota]) -> list[str]:
        """Redis keys of one lane; the braces keep them together in a cluster."""
        stem = f"{self._namespace}:{{{key}}}"
        return [f"{stem}:state", f"{stem}:processes", *(f"{stem}:log:{name.value}" for name in quotas)]

    async def _run(self, script: str, keys: list[str], *arguments: Any) -> Any:
        found = self._scripts[script]
        call = (len(keys), *keys, *arguments)
        try:
            return await self._redis.evalsha(found.sha, *call)
        except NoScriptError:
            return await self._redis.eval(found.text, *call)

    async def _tell(self, script: str, keys: list[str], *arguments: Any) -> None:
        if self._is_lost:
            return
        try:
            await self._run(script, keys, *arguments)
        except (RedisError, OSError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        now = asyncio.get_running_loop().time()
        again = self._back_at and now < self._back_at + LONGEST_RETURN_S
        self._return_s = min(self._return_s * 2, LONGEST_RETURN_S) if again else RETURN_S
        self._say(f"{self._name} is away ({type(error).__name__}): going on with a local share of the limits")
        self._in_background(self._wait_for_return())

    async def _wait_for_return(self) -> None:
        while True:
            await asyncio.sleep(self._return_s)
            try:
                await self._redis.ping()
            except (RedisError, OSError):
                continue
            self._is_lost = False
            self._back_at = asyncio.get_running_loop().time()
            self._say(f"{self._name} is back: limits are shared again")
            return

    def _say(self, sentence: str) -> None:
        _log.warning(sentence)
        if self._notify is not None:
            self._notify(sentence)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Script:
    """A Lua script and the name that Redis gives it."""

    def __init__(self, name: str) -> None:
        self.text = script_text(name)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def script_text(name: str) -> str:
    """A Lua script of this package, with the common part in front of it."""
    folder = files("batcher.limits").joinpath("lua")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("window", name))
