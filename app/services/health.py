"""Readiness: whether each part of the service works."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from app.cache import Cache
from app.errors import UnavailableError
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.meta import MetaRepository
from app.repositories.mongo import Database

OK = "ok"
_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LoopProbe:
    """Checks whether a loop of this process is running."""

    name: str
    seconds_since_tick: Callable[[], float | None]
    """Since its last successful round; None before the first one."""
    limit_seconds: float = 30.0
    """A shorter time without a round is normal: a poll interval, a slow database, a back-off."""

    def check(self) -> str:
        seconds = self.seconds_since_tick()
        if seconds is None:
            return "has not finished a round yet"
        if seconds > self.limit_seconds:
            return f"last finished a round {seconds:.0f} s ago"
        return OK


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of each part: `ok`, or what is wrong."""

    checks: Mapping[str, str]

    @property
    def failing(self) -> dict[str, str]:
        return {part: finding for part, finding in self.checks.items() if finding != OK}


class HealthService:
    """Checks the stores, in parallel and for at most 2 s, and the loops."""

    def __init__(
        self,
        *,
        database: Database,
        cache: Cache,
        meta: MetaRepository,
        loops: Sequence[LoopProbe] = (),
    ) -> None:
        self._database = database
        self._cache = cache
        self._meta = meta
        self.loops = loops

    async def ready(self) -> Readiness:
        database, redis, schema = await asyncio.gather(
            _check(self._database.ping), _check(self._cache.ping), _check(self._check_schema)
        )
        loops = {loop.name: loop.check() for loop in self.loops}
        return Readiness({"database": database, "redis": redis, "schema": schema, **loops})

    async def _check_schema(self) -> None:
        """Raises UnavailableError if there may be documents that this process leaves alone."""
        present = await self._meta.get_schema_version()
        if present > SCHEMA_VERSION:
            raise UnavailableError(
                f"the database may hold documents of schema {present}; this process knows schema "
                f"{SCHEMA_VERSION} and leaves newer documents alone; update it"
            )


async def _check(ping: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await ping()
    except TimeoutError:
        return f"did not respond within {_TIMEOUT_SECONDS:.0f} s"
    except UnavailableError as error:
        return f"unavailable: {error.detail.rstrip('.')}"
    return OK
