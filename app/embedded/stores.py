"""The stores of a process: the configured MongoDB and Redis, or embedded ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.embedded.mongod import start_mongod
from app.embedded.redis_server import find_redis_server, start_redis
from app.embedded.shared_server import SharedServer
from app.errors import ConfigurationError
from app.settings import Settings
from app.store_addresses import describe_store

_log = structlog.get_logger(__name__)

_LOG_CHECK_SECONDS = 10
_WATCH_SECONDS = 1.0
_MAX_WATCH_SECONDS = 60.0
_REDIS_SECONDS = 3


@dataclass(frozen=True)
class Stores:
    """The address of MongoDB, and the open Redis client."""

    mongodb_uri: str = field(repr=False)
    redis: Redis = field(repr=False)
    redis_is_shared: bool
    """Whether every process that uses this MongoDB uses this Redis."""


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Yield the configured MongoDB and Redis, and embedded ones where none is configured.

    At the end the Redis client is closed, and embedded servers that no other process uses are
    stopped. The caller must close everything else that uses the stores first. Raises
    ConfigurationError.
    """
    async with AsyncExitStack() as stack:
        if settings.mongodb_uri:
            mongodb_uri = settings.mongodb_uri.get_secret_value()
        else:
            mongodb_uri = await stack.enter_async_context(_run_server(start_mongod, settings))
        if settings.redis_url:
            redis_url: str | None = settings.redis_url.get_secret_value()
        elif find_redis_server():
            redis_url = await stack.enter_async_context(_run_server(start_redis, settings))
        else:
            redis_url = None
        client = _open_redis(redis_url)
        stack.push_async_callback(client.aclose)
        if settings.redis_url:
            await _warn_without_redis(client, settings.redis_url.get_secret_value())
        yield Stores(mongodb_uri, client, _is_redis_shared(settings, redis_url))


@asynccontextmanager
async def _run_server(
    start_server: Callable[[Path], SharedServer], settings: Settings
) -> AsyncIterator[str]:
    """Yield the URI of an embedded server that runs during the block.

    Starting and stopping block, so they run in threads.
    """
    starting = asyncio.create_task(asyncio.to_thread(start_server, settings.data_dir))
    try:
        server = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A thread cannot be cancelled. Without this, Ctrl-C would leave the server running.
        await asyncio.to_thread((await starting).stop)
        raise
    _log.info("embedded_server_ready", address=server.address, pid=server.pid)
    limiting = asyncio.create_task(_limit_log(server), name="limit-log")
    watching = asyncio.create_task(_watch(server), name="watch-server")
    try:
        yield server.uri
    finally:
        limiting.cancel()
        watching.cancel()
        stopped = await asyncio.shield(asyncio.create_task(asyncio.to_thread(server.stop)))
        _log.info("embedded_server_left", address=server.address, stopped=stopped)


async def _watch(server: SharedServer) -> None:
    """Start the server again when it has ended, for example because somebody killed it."""
    pause = _WATCH_SECONDS
    while True:
        await asyncio.sleep(pause)
        try:
            restarted = await asyncio.to_thread(server.restart_if_dead)
        except (ConfigurationError, OSError) as error:
            pause = next_pause(pause, found_dead=True)
            _log.error(
                "embedded_server_not_restarted",
                address=server.address,
                error=str(error),
                next_try_in_seconds=pause,
            )
            continue
        pause = next_pause(pause, found_dead=restarted)
        if restarted:
            _log.warning("embedded_server_restarted", address=server.address, pid=server.pid)


def next_pause(pause: float, *, found_dead: bool) -> float:
    """The pause before the next look at a server, in seconds. It grows while the server ends again
    and again, so that it is not started in a fast loop."""
    if found_dead:
        return min(pause * 2, _MAX_WATCH_SECONDS)
    return max(pause / 2, _WATCH_SECONDS)


async def _limit_log(server: SharedServer) -> None:
    while True:
        await asyncio.sleep(_LOG_CHECK_SECONDS)
        try:
            await asyncio.to_thread(server.limit_log)
        except OSError:
            _log.warning("embedded_log_not_limited", address=server.address, exc_info=True)


def _is_redis_shared(settings: Settings, redis_url: str | None) -> bool:
    """Whether every process that uses this MongoDB uses this Redis. Two embedded servers belong to
    the same folder, but a configured MongoDB may have processes on other machines."""
    if settings.redis_url is not None:
        return True
    if redis_url is not None and settings.mongodb_uri is not None:
        _log.warning(
            "redis_of_one_machine",
            reason="MONGODB_URI is set and REDIS_URL is not",
            effect="responses are not cached, and processes on other machines are woken by polls",
        )
    return redis_url is not None and settings.mongodb_uri is None


def _open_redis(url: str | None) -> Redis:
    if url is not None:
        try:
            return Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        except ValueError:
            raise ConfigurationError(
                "REDIS_URL is not an address. Set it to one such as redis://cache.example:6379/0,"
                " with special characters in its password as %XX."
            ) from None
    from fakeredis import FakeAsyncRedis

    _log.warning(
        "redis_inside_process",
        reason="REDIS_URL is not set and no redis-server is on the PATH",
        effect="responses are not cached, and other processes are woken by polls",
    )
    return FakeAsyncRedis()


async def _warn_without_redis(client: Redis, url: str) -> None:
    """Log a warning if Redis does not respond, because the service also works without it."""
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            await client.ping()
    except (RedisError, OSError, TimeoutError) as error:
        _log.warning(
            "redis_does_not_respond",
            setting="REDIS_URL",
            address=describe_store(url),
            error=str(error) or f"no response within {_REDIS_SECONDS} s",
            effect="nothing is cached, and a change in one process reaches the others at their next"
            " poll; the service uses Redis as soon as it responds",
        )
