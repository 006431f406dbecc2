"""Responses kept in Redis for a limited time, per scope, and invalidated when a job of the owner
changes.

A scope is an owner's id, or `ALL_OWNERS` for users who see the jobs of all owners. Each scope has
a generation, a random token. Every write deletes the generation, and the next reader creates a new
one. A response is stored together with the generation that was read before the query, and it is
valid only while that is still the scope's generation. So a slow reader cannot store a response
that a write has made outdated. Generations are random, so the responses of a generation that Redis
has evicted never become valid again.

A user's write is followed by `invalidate`. The engine moves jobs much more often: it notes their
owners (`note_moved`), and a loop drops the responses of all of them once a second (`drop_moved`).
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
"""The scope of users who see the jobs of all owners."""

MAX_TTL = timedelta(seconds=60)
"""The longest time that a response is kept, and the time for which the cache is bypassed after a
failed invalidation."""

MAX_RESPONSE_BYTES = 262_144
"""A larger response is not stored: few of them would evict all others."""

_OWNERS_IN_A_CALL = 1_000
_TIMEOUT = timedelta(seconds=0.25)
_GENERATION_BYTES = 16
_GENERATION_TTL = timedelta(days=1)
"""How long a generation is kept: longer than any response."""
_LOG_INTERVAL = timedelta(minutes=1)

_FAILURES = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """The right to store a response: its key, and the generation before its query."""

    key: str
    generation: bytes


class Cache:
    """A cache that may fail at any time: no method except `ping` raises.

    `redis` must return bytes. `ttl` is how long a response is kept, at most `MAX_TTL`; with
    zero, nothing is cached.
    """

    def __init__(self, redis: Redis, *, ttl: timedelta, clock: Clock) -> None:
        if ttl > MAX_TTL:
            raise ValueError(f"a response must not be kept longer than {MAX_TTL}")
        self._redis = redis
        self._ttl_ms = int(ttl.total_seconds() * 1000)
        self._clock = clock
        self._bypassed_until = float("-inf")
        self._moved: dict[str, None] = {}
        """The owners whose responses are to be dropped."""
        self._logged_at = float("-inf")

    async def find(self, scope: str, key: str) -> tuple[bytes | None, PendingEntry | None]:
        """Return the stored response, or None and the entry to pass to `put`.

        Both are None if the caller must not store the response.
        """
        if not self._ttl_ms or self._clock.monotonic() < self._bypassed_until:
            return None, None
        try:
            return await self._limit_time(lambda: self._look_up(scope, key))
        except _FAILURES as error:
            self._log_failure(error)
            return None, None

    async def put(self, entry: PendingEntry | None, response: bytes) -> None:
        """Store a response of at most `MAX_RESPONSE_BYTES`. `entry` is what `find` returned before
        the query."""
        if entry is None or len(response) > MAX_RESPONSE_BYTES:
            return
        try:
            await self._limit_time(
                lambda: self._redis.set(entry.key, entry.generation + response, px=self._ttl_ms)
            )
        except _FAILURES as error:
            self._log_failure(error)

    async def invalidate(self, owner_id: str) -> None:
        """Make all responses invalid that show data of the owner. Call it after each write.

        If that fails, this process bypasses the cache until the outdated responses have expired.
        """
        if not self._ttl_ms:
            return
        self._moved.pop(owner_id, None)
        if not await self._drop([owner_id]):
            self._bypassed_until = self._clock.monotonic() + MAX_TTL.total_seconds()

    def note_moved(self, owner_ids: Iterable[str]) -> None:
        """The engine has changed jobs of these owners. Call it after the write, also if its result
        is unknown: a response that is read before the write must not survive the next drop."""
        if self._ttl_ms:
            self._moved.update(dict.fromkeys(owner_ids))

    async def drop_moved(self) -> None:
        """Make the responses of the noted owners invalid. Without such owners Redis is not called.

        What fails stays noted for the next call. The cache is not bypassed meanwhile, as it is
        after a failed `invalidate`: no user waits for this change, and one slow call would cost all
        owners their cached responses for a minute.
        """
        moved = list(self._moved)
        for start in range(0, len(moved), _OWNERS_IN_A_CALL):
            batch = moved[start : start + _OWNERS_IN_A_CALL]
            for owner_id in batch:  # before the call, so that what is noted during it stays noted
                self._moved.pop(owner_id, None)
            if not await self._drop(batch):
                return

    async def ping(self) -> None:
        """Check that Redis responds. Raises UnavailableError."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise UnavailableError("Redis does not respond.") from error

    async def _look_up(self, scope: str, key: str) -> tuple[bytes | None, PendingEntry | None]:
        redis_key = f"carillon:response:{scope}:{key}"
        values = await self._redis.mget(_generation_key(scope), redis_key)
        generation, stored = cast("list[bytes | None]", values)
        if generation is None:
            generation = await self._create_generation(scope)
        if stored is not None and stored[:_GENERATION_BYTES] == generation:
            return stored[_GENERATION_BYTES:], None
        return None, PendingEntry(redis_key, generation)

    async def _create_generation(self, scope: str) -> bytes:
        """Create the scope's generation, or return the one that another reader created first."""
        key, new = _generation_key(scope), secrets.token_bytes(_GENERATION_BYTES)
        created = await self._redis.set(key, new, nx=True, ex=_GENERATION_TTL)
        present = None if created else cast("bytes | None", await self._redis.get(key))
        return new if present is None else present

    async def _drop(self, owner_ids: Sequence[str]) -> bool:
        """Return whether the responses of these owners are dropped. If not, also after a
        cancellation, the owners are noted."""
        dropped = False
        try:
            await self._limit_time(lambda: self._delete_generations(owner_ids))
            dropped = True
        except _FAILURES as error:
            self._log_failure(error)
        finally:
            if not dropped:
                self.note_moved(owner_ids)
        return dropped

    async def _delete_generations(self, owner_ids: Sequence[str]) -> None:
        """Delete the generations. A deletion also works when Redis has no memory left."""
        await self._redis.delete(*map(_generation_key, (*owner_ids, ALL_OWNERS)))

    async def _limit_time(self, call: Callable[[], Awaitable[_T]]) -> _T:
        async with asyncio.timeout(_TIMEOUT.total_seconds()):
            return await call()

    def _log_failure(self, error: BaseException) -> None:
        """Log the failure, at most once a minute."""
        now = self._clock.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL.total_seconds():
            self._logged_at = now
            _log.warning("cache_failed", error=type(error).__name__)


def _generation_key(scope: str) -> str:
    return f"carillon:generation:{scope}"
