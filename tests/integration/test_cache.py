"""The cache on a real Redis: what is dropped stays dropped, and no failure is an error."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.cache import Cache
from app.errors import UnavailableError
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer

TTL = timedelta(seconds=60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
def cache(redis: Redis, clock: ManualClock) -> Cache:
    return Cache(redis, ttl=TTL, clock=clock)


@pytest.fixture
async def dead(clock: ManualClock) -> AsyncIterator[Cache]:
    redis = Redis.from_url("redis://127.0.0.1:1/0")
    yield Cache(redis, ttl=TTL, clock=clock)
    await redis.aclose()


async def fill(cache: Cache, scope: str, key: str, answer: bytes) -> None:
    found, token = await cache.get(scope, key)
    assert found is None
    await cache.put(token, answer)


async def found(cache: Cache, scope: str, key: str) -> bytes | None:
    return (await cache.get(scope, key))[0]


async def test_what_was_put_is_found(cache: Cache) -> None:
    answer = bytes(range(256))
    await fill(cache, "alice", "jobs", answer)
    assert await found(cache, "alice", "jobs") == answer
    assert await found(cache, "alice", "other") is None
    assert await found(cache, "bob", "jobs") is None


async def test_a_write_drops_the_owners_answers_and_everybodys(cache: Cache) -> None:
    for scope in ("alice", "bob", "*"):
        await fill(cache, scope, "jobs", b"old")
    await cache.forget("alice")
    assert await found(cache, "alice", "jobs") is None
    assert await found(cache, "*", "jobs") is None
    assert await found(cache, "bob", "jobs") == b"old"


async def test_a_slow_reader_cannot_store_what_a_write_made_old(cache: Cache) -> None:
    _, token = await cache.get("alice", "jobs")
    await cache.forget("alice")
    await cache.put(token, b"old")
    assert await found(cache, "alice", "jobs") is None


async def test_an_evicted_generation_does_not_bring_old_answers_back(
    cache: Cache, redis: Redis
) -> None:
    await fill(cache, "alice", "jobs", b"old")
    await redis.delete("carillon:generation:alice")
    assert await found(cache, "alice", "jobs") is None


async def test_processes_share_answers_and_drops(
    cache: Cache, redis: Redis, clock: ManualClock
) -> None:
    other = Cache(redis, ttl=TTL, clock=clock)
    await fill(cache, "alice", "jobs", b"answer")
    assert await found(other, "alice", "jobs") == b"answer"
    await other.forget("alice")
    assert await found(cache, "alice", "jobs") is None


async def test_of_many_first_readers_all_agree_on_the_generation(cache: Cache) -> None:
    tokens = [token for _, token in await asyncio.gather(*(cache.get("a", "k") for _ in range(9)))]
    assert len({token.generation for token in tokens if token is not None}) == 1


async def test_an_answer_expires(cache: Cache, redis: Redis) -> None:
    await fill(cache, "alice", "jobs", b"answer")
    assert 0 < await redis.pttl("carillon:answer:alice:jobs") <= TTL.total_seconds() * 1000


async def test_a_ttl_of_zero_keeps_nothing_and_asks_nothing(clock: ManualClock) -> None:
    redis = Redis.from_url("redis://127.0.0.1:1/0")
    cache = Cache(redis, ttl=timedelta(0), clock=clock)
    with capture_logs() as logs:
        assert await cache.get("alice", "jobs") == (None, None)
        await cache.forget("alice")
    assert logs == []
    await redis.aclose()


async def test_where_dropping_fails_the_cache_is_bypassed_for_a_minute(
    cache: Cache, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache, "alice", "jobs", b"old")

    async def fail(_: str) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_drop_generations", fail)
        await cache.forget("alice")
    assert await cache.get("alice", "jobs") == (None, None)
    clock.advance(timedelta(seconds=59))
    assert await cache.get("alice", "jobs") == (None, None)
    clock.advance(timedelta(seconds=2))
    assert await found(cache, "alice", "jobs") == b"old"  # Redis's own clock stood still


async def test_a_write_drops_answers_while_redis_has_no_memory_left(
    tmp_path: Path, clock: ManualClock
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    redis = Redis.from_url(server.uri)
    try:
        one, other = (Cache(redis, ttl=TTL, clock=clock) for _ in range(2))
        await fill(one, "alice", "jobs", b"old")
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", "1")
        await one.forget("alice")
        assert await found(other, "alice", "jobs") is None
    finally:
        await redis.aclose()
        server.kill()


async def test_a_dead_redis_is_a_miss_and_one_log_line_a_minute(
    dead: Cache, clock: ManualClock
) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            assert await dead.get("alice", "jobs") == (None, None)
        await dead.forget("alice")
        clock.advance(timedelta(seconds=61))
        assert await dead.get("alice", "jobs") == (None, None)
    assert [log["event"] for log in logs] == ["cache_failed", "cache_failed"]


async def test_a_redis_that_hangs_is_a_miss_in_time(clock: ManualClock) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        redis = Redis.from_url(f"redis://127.0.0.1:{port}/0")
        cache = Cache(redis, ttl=TTL, clock=clock)
        async with asyncio.timeout(2):
            assert await cache.get("alice", "jobs") == (None, None)
            await cache.forget("alice")
        await redis.aclose()


async def test_ping(cache: Cache, dead: Cache) -> None:
    await cache.ping()
    with pytest.raises(UnavailableError):
        await dead.ping()
