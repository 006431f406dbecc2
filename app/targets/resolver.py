"""Name lookups of the http targets: limited in time, and in number for each owner.

The system's resolver needs a thread for each lookup, so a few names that never get an answer would
stop the lookups of all owners. These lookups need no threads.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta

import aiodns
import aiohttp
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult

from app.clock import Clock
from app.errors import ConfigurationError

LOOKUP_LIMIT = timedelta(seconds=2)
"""The time limit of one lookup: A, AAAA, all servers and all search domains together."""
MAX_LOOKUPS_OF_OWNER = 4
UNANSWERED_FOR = timedelta(seconds=30)
"""How long a name without an answer is remembered. Lookups of it fail immediately meanwhile."""
MAX_UNANSWERED = 10_000

# c-ares waits for a server for five times its usual response time, but at least 0.25 s and at most
# `_TRY_SECONDS`, and twice as long with each try. With one try, a name whose answer takes 0.3 s
# would fail if the server usually answers quickly from its cache.
_TRY_SECONDS = 1.0
_TRIES = 3
# IGNTC: a truncated answer is used as it is, and not asked for again by TCP. By TCP, names of one
# user can have answers of 64 KB, which take long to parse and are kept. EDNS, which is the default
# of c-ares: by UDP, an answer has at most about 1,232 bytes, some 70 addresses.
_FLAGS = pycares.ARES_FLAG_IGNTC | pycares.ARES_FLAG_EDNS
_LOOKUPS_PER_CHANNEL = 1_000

MAX_ADDRESSES = 16
"""The most addresses of a name that are tried. aiohttp takes n² / 2 steps for n addresses."""

_owner: ContextVar[str] = ContextVar("owner_of_lookups", default="")


@contextmanager
def look_up_for(owner_id: str) -> Iterator[None]:
    """Count the lookups in the `with` statement for this owner."""
    token = _owner.set(owner_id)
    try:
        yield
    finally:
        _owner.reset(token)


class UnansweredError(OSError):
    """No server has answered. The cause is `aiodns.error.DNSError`, or the limit of the lookup."""

    def __init__(self) -> None:
        super().__init__(None, "no DNS server has answered")


class AresResolver(AbstractResolver):
    """Looks names up in the hosts file and by DNS, by the system's configuration.

    `servers` (as in the setting DNS_SERVERS) replace the system's DNS servers. Must be created in
    an event loop. Raises ConfigurationError if they are not addresses. A lookup raises
    UnansweredError, another OSError, or ValueError for a name that no host can have.
    """

    def __init__(self, servers: str | None = None) -> None:
        self._servers = [server.strip() for server in servers.split(",")] if servers else None
        self._lookups = 0
        self._channel = self._open_channel()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await self._take_channel().resolve(host, port, family)
        except OSError as error:
            code = error.__cause__.args[0] if error.__cause__ else None
            if code == aiodns.error.ARES_EBADNAME:
                raise ValueError("no host can have this name") from error
            if code == aiodns.error.ARES_ETIMEOUT:
                raise UnansweredError from error
            raise
        return found[:MAX_ADDRESSES]

    async def close(self) -> None:
        await self._channel.close()

    def _take_channel(self) -> aiohttp.AsyncResolver:
        """The channel for the next lookup.

        c-ares keeps each complete answer for its time to live and has no limit of their number.
        pycares cannot switch this off, so the channel is replaced from time to time. The old one
        ends with its last lookup.
        """
        if self._lookups == _LOOKUPS_PER_CHANNEL:
            self._lookups = 0
            self._channel = self._open_channel()
        self._lookups += 1
        return self._channel

    def _open_channel(self) -> aiohttp.AsyncResolver:
        try:
            return aiohttp.AsyncResolver(
                nameservers=self._servers, timeout=_TRY_SECONDS, tries=_TRIES, flags=_FLAGS
            )
        except pycares.AresError as error:
            raise ConfigurationError(f"DNS_SERVERS cannot be used: {error.args[-1]}") from error


@dataclass(slots=True)
class _Places:
    """The lookups of an owner that run, and those that wait."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_LOOKUPS_OF_OWNER))
    users: int = 0


class LimitedResolver(AbstractResolver):
    """Limits the lookups of another resolver, so that no owner can delay those of another one.

    An owner has at most `MAX_LOOKUPS_OF_OWNER` lookups at once; further ones wait. A lookup ends
    after `LOOKUP_LIMIT`.
    """

    def __init__(self, resolver: AbstractResolver, *, clock: Clock) -> None:
        self._resolver = resolver
        self._clock = clock
        self._places: dict[str, _Places] = {}
        self._unanswered: dict[str, float] = {}
        """Until when (monotonic) a name is not looked up again, the earliest first."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises UnansweredError, or what the other resolver raises."""
        async with self._take_place():
            if self._is_unanswered(host):
                raise UnansweredError
            try:
                async with self._clock.timeout(LOOKUP_LIMIT):
                    return await self._resolver.resolve(host, port, family)
            except UnansweredError:
                self._remember(host)
                raise
            except TimeoutError as error:
                self._remember(host)
                raise UnansweredError from error

    async def close(self) -> None:
        await self._resolver.close()

    @asynccontextmanager
    async def _take_place(self) -> AsyncIterator[None]:
        owner_id = _owner.get()
        places = self._places.setdefault(owner_id, _Places())
        places.users += 1
        try:
            async with places.free:
                yield
        finally:
            places.users -= 1
            if not places.users:
                del self._places[owner_id]

    def _is_unanswered(self, host: str) -> bool:
        until = self._unanswered.get(host)
        return until is not None and self._clock.monotonic() < until

    def _remember(self, host: str) -> None:
        self._unanswered.pop(host, None)  # so that the new entry is the last one
        self._unanswered[host] = self._clock.monotonic() + UNANSWERED_FOR.total_seconds()
        if len(self._unanswered) > MAX_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
