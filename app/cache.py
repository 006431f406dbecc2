"""Answers kept in Redis for a while, per owner, and dropped when the owner's things change.

Each owner has a generation, a random token that every write drops; the next reader makes another
one. An answer is stored together with the generation that was read before its query, and counts
only as long as that is still the owner's: so a slow reader cannot store what a write has made old,
and a generation that Redis evicted never comes back. `*` is the scope of those who see everything.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.clock import Clock
from app.errors import UnavailableError

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

ALL_OWNERS = "*"
_TIMEOUT_SECONDS = 0.25
_GENERATION_BYTES = 16
_GENERATION_SECONDS = 86_400
"""How long a generation is kept: longer than any answer."""
_BYPASS_SECONDS = 60.0
"""After a failed drop: as long as an old answer may live."""
_LOG_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fill:
    """The right to store an answer: its place, and the generation before its query."""

    key: str
    generation: bytes


class Cache:
    """A cache that may fail at any time: no method but `ping` raises.

    `redis` must answer bytes. `ttl` is how long an answer is kept; zero keeps none.
    """

    def __init__(self, redis: Redis, *, ttl: timedelta, clock: Clock) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl.total_seconds() * 1000)
        self._clock = clock
        self._bypassed_until = float("-inf")
        self._logged_at = float("-inf")

    async def get(self, scope: str, key: str) -> tuple[bytes | None, Fill | None]:
        """The stored answer, or None and the right to store one (None: do not store)."""
        if not self._ttl_ms or self._clock.monotonic() < self._bypassed_until:
            return None, None
        try:
            return await self._bounded(lambda: self._look_up(scope, key))
        except _FAILURES as error:
            self._note(error)
            return None, None

    async def put(self, fill: Fill | None, answer: bytes) -> None:
        """Store the answer to the query that `fill` was got for."""
        if fill is None:
            return
        try:
            await self._bounded(
                lambda: self._redis.set(fill.key, fill.generation + answer, px=self._ttl_ms)
            )
        except _FAILURES as error:
            self._note(error)

    async def forget(self, owner_id: str) -> None:
        """Drop every answer that shows things of the owner. Call it after each write.

        Where that fails, this process uses the cache no more until old answers have expired.
        """
        if not self._ttl_ms:
            return
        try:
            await self._bounded(lambda: self._drop_generations(owner_id))
        except _FAILURES as error:
            self._bypassed_until = self._clock.monotonic() + _BYPASS_SECONDS
            self._note(error)

    async def ping(self) -> None:
        """Ask Redis for an answer. Raises UnavailableError."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise UnavailableError("Redis does not answer.") from error

    async def _look_up(self, scope: str, key: str) -> tuple[bytes | None, Fill | None]:
        place = f"carillon:answer:{scope}:{key}"
        found = await self._redis.mget(_generation_key(scope), place)
        generation, stored = cast("list[bytes | None]", found)
        if generation is None:
            generation = await self._first_generation(scope)
        if stored is not None and stored[:_GENERATION_BYTES] == generation:
            return stored[_GENERATION_BYTES:], None
        return None, Fill(place, generation)

    async def _first_generation(self, scope: str) -> bytes:
        """A generation for a scope that has none; whoever comes first decides."""
        key, fresh = _generation_key(scope), _fresh_generation()
        won = await self._redis.set(key, fresh, nx=True, ex=_GENERATION_SECONDS)
        present = None if won else cast("bytes | None", await self._redis.get(key))
        return fresh if present is None else present

    async def _drop_generations(self, owner_id: str) -> None:
        """By a deletion, which also a Redis without memory does."""
        await self._redis.delete(_generation_key(owner_id), _generation_key(ALL_OWNERS))

    async def _bounded(self, call: Callable[[], Awaitable[_T]]) -> _T:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await call()

    def _note(self, error: BaseException) -> None:
        now = self._clock.monotonic()
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            _log.warning("cache_failed", error=type(error).__name__)


_FAILURES = (RedisError, OSError, TimeoutError)


def _generation_key(scope: str) -> str:
    return f"carillon:generation:{scope}"


def _fresh_generation() -> bytes:
    return secrets.token_bytes(_GENERATION_BYTES)
