"""Readiness: whether each part of the service works."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.cache import Cache
from app.errors import UnavailableError
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.meta import MetaRepository
from app.repositories.mongo import Database

OK = "ok"
_TIMEOUT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class LoopProbe:
    """Checks whether a loop of this process is running."""

    name: str
    get_seconds_overdue: Callable[[], float | None]
    """Seconds by which the next round is late; None before the first round has ended."""
    limit_seconds: float = 30.0
    """A shorter delay is normal: a slow database call or a back-off."""

    def check(self) -> str:
        overdue = self.get_seconds_overdue()
        if overdue is None:
            return "has not finished a round yet"
        if overdue > self.limit_seconds:
            return f"is {overdue:.0f} s late with its next round"
        return OK


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of each part: `ok`, or what is wrong."""

    checks: Mapping[str, str]
    warnings: Mapping[str, str]
    """Of the parts that work, but need the attention of an operator."""

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
        warnings: Mapping[str, Callable[[], str | None]] | None = None,
    ) -> None:
        self._database = database
        self._cache = cache
        self._meta = meta
        self.loops = loops
        self._warnings = warnings or {}

    async def check(self) -> Readiness:
        database, redis, schema = await asyncio.gather(
            _check(self._database.ping), _check(self._cache.ping), _check(self._check_schema)
        )
        loops = {loop.name: loop.check() for loop in self.loops}
        checks = {"database": database, "redis": redis, "schema": schema, **loops}
        return Readiness(checks, self.list_warnings())

    def list_warnings(self) -> dict[str, str]:
        """By part: what needs the attention of an operator, although the part works."""
        found = {part: describe() for part, describe in self._warnings.items()}
        return {part: warning for part, warning in found.items() if warning is not None}

    async def _check_schema(self) -> None:
        """Raises UnavailableError if there may be documents of a newer release."""
        present = await self._meta.get_schema_version()
        if present > SCHEMA_VERSION:
            raise UnavailableError(
                f"the database may hold documents of schema {present}; this process knows schema "
                f"{SCHEMA_VERSION} and does not use newer documents; update this process to the "
                "newer release"
            )


async def _check(ping: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT.total_seconds()):
            await ping()
    except TimeoutError:
        return f"did not respond within {_TIMEOUT.total_seconds():.0f} s"
    except UnavailableError as error:
        return f"unavailable: {error.detail.rstrip('.')}"
    return OK
