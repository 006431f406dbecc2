"""The cache on a real Redis: dropped responses are never returned, and a failure is a miss."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.cache import ALL_OWNERS, MAX_RESPONSE_BYTES, MAX_TTL, Cache, PendingEntry
from app.errors import UnavailableError
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.servers import UNREACHABLE_REDIS

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
async def unreachable(clock: ManualClock) -> AsyncIterator[Cache]:
    redis = Redis.from_url(UNREACHABLE_REDIS)
    yield Cache(redis, ttl=TTL, clock=clock)
    await redis.aclose()


async def test_a_ttl_over_the_limit_is_rejected(redis: Redis, clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="longer"):
        Cache(redis, ttl=MAX_TTL + timedelta(milliseconds=1), clock=clock)


async def store(cache: Cache, scope: str, key: str, response: bytes) -> None:
    stored, entry = await cache.find(scope, key)
    assert stored is None
    await cache.put(entry, response)


async def find(cache: Cache, scope: str, key: str) -> bytes | None:
    return (await cache.find(scope, key))[0]


async def test_a_stored_response_is_found_by_its_scope_and_key(cache: Cache) -> None:
    response = bytes(range(256))
    await store(cache, "alice", "jobs", response)
    assert await find(cache, "alice", "jobs") == response
    assert await find(cache, "alice", "other") is None
    assert await find(cache, "bob", "jobs") is None


async def test_a_write_drops_the_responses_of_the_owner_and_of_all_owners(cache: Cache) -> None:
    for scope in ("alice", "bob", ALL_OWNERS):
        await store(cache, scope, "jobs", b"outdated")
    await cache.invalidate("alice")
    assert await find(cache, "alice", "jobs") is None
    assert await find(cache, ALL_OWNERS, "jobs") is None
    assert await find(cache, "bob", "jobs") == b"outdated"


async def test_a_slow_reader_cannot_store_a_response_that_a_write_made_outdated(
    cache: Cache,
) -> None:
    _, entry = await cache.find("alice", "jobs")
    await cache.invalidate("alice")
    await cache.put(entry, b"outdated")
    assert await find(cache, "alice", "jobs") is None


async def test_an_evicted_generation_does_not_bring_outdated_responses_back(
    cache: Cache, redis: Redis
) -> None:
    await store(cache, "alice", "jobs", b"outdated")
    await redis.delete("carillon:generation:alice")
    assert await find(cache, "alice", "jobs") is None


async def test_processes_share_responses_and_drops(
    cache: Cache, redis: Redis, clock: ManualClock
) -> None:
    other = Cache(redis, ttl=TTL, clock=clock)
    await store(cache, "alice", "jobs", b"response")
    assert await find(other, "alice", "jobs") == b"response"
    await other.invalidate("alice")
    assert await find(cache, "alice", "jobs") is None


async def test_a_response_over_the_limit_is_not_stored(cache: Cache) -> None:
    await store(cache, "a", "small", b"x" * MAX_RESPONSE_BYTES)
    await store(cache, "a", "large", b"x" * (MAX_RESPONSE_BYTES + 1))
    assert await find(cache, "a", "small") == b"x" * MAX_RESPONSE_BYTES
    assert await find(cache, "a", "large") is None


async def test_simultaneous_first_readers_get_the_same_generation(cache: Cache) -> None:
    results = await asyncio.gather(*(cache.find("a", "k") for _ in range(9)))
    entries = [entry for _, entry in results if isinstance(entry, PendingEntry)]
    assert len(entries) == 9
    assert len({entry.generation for entry in entries}) == 1


async def test_a_response_expires(cache: Cache, redis: Redis) -> None:
    await store(cache, "alice", "jobs", b"response")
    assert 0 < await redis.pttl("carillon:response:alice:jobs") <= TTL.total_seconds() * 1000


async def test_with_a_ttl_of_zero_redis_is_not_called(clock: ManualClock) -> None:
    redis = Redis.from_url(UNREACHABLE_REDIS)
    cache = Cache(redis, ttl=timedelta(0), clock=clock)
    with capture_logs() as logs:
        assert await cache.find("alice", "jobs") == (None, None)
        await cache.invalidate("alice")
        cache.note_moved(["alice"])
        await cache.drop_moved()
    assert logs == []
    await redis.aclose()


async def test_after_a_failed_drop_the_cache_is_bypassed_for_a_minute(
    cache: Cache, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(cache, "alice", "jobs", b"outdated")

    async def fail(_: Sequence[str]) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_delete_generations", fail)
        await cache.invalidate("alice")
    assert await cache.find("alice", "jobs") == (None, None)
    clock.advance(timedelta(seconds=59))
    assert await cache.find("alice", "jobs") == (None, None)
    clock.advance(timedelta(seconds=2))
    # Redis uses the real time, so the response has not expired.
    assert await find(cache, "alice", "jobs") == b"outdated"


async def count_commands(redis: Redis) -> int:
    """Return how many commands Redis has executed, without this one."""
    return int((await redis.info("stats"))["total_commands_processed"])


async def test_moved_jobs_drop_the_responses_of_their_owners_at_the_next_round(
    cache: Cache,
) -> None:
    for scope in ("alice", "bob", "carol", ALL_OWNERS):
        await store(cache, scope, "jobs", b"response")
    cache.note_moved(["alice", "bob", "alice"])
    assert await find(cache, "alice", "jobs") == b"response"
    await cache.drop_moved()
    for scope in ("alice", "bob", ALL_OWNERS):
        assert await find(cache, scope, "jobs") is None
    assert await find(cache, "carol", "jobs") == b"response"


async def test_one_call_to_redis_drops_the_responses_of_many_owners(
    cache: Cache, redis: Redis
) -> None:
    before = await count_commands(redis)
    cache.note_moved(f"owner-{n}" for n in range(1_000))
    await cache.drop_moved()
    assert await count_commands(redis) == before + 2


async def test_owners_whose_jobs_rest_cost_no_call_to_redis(cache: Cache, redis: Redis) -> None:
    cache.note_moved(["alice"])
    await cache.drop_moved()
    before = await count_commands(redis)
    for _ in range(3):
        await cache.drop_moved()
    assert await count_commands(redis) == before + 1


async def test_a_slow_reader_cannot_store_a_response_that_a_moved_job_made_outdated(
    cache: Cache,
) -> None:
    _, entry = await cache.find("alice", "jobs")
    cache.note_moved(["alice"])
    await cache.drop_moved()
    await cache.put(entry, b"outdated")
    assert await find(cache, "alice", "jobs") is None


async def test_a_change_that_is_noted_during_a_drop_belongs_to_the_next_one(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = cache._delete_generations

    async def note_after_the_deletion(owner_ids: Sequence[str]) -> None:
        await delete(owner_ids)
        await store(cache, "alice", "jobs", b"outdated")
        cache.note_moved(["alice"])

    cache.note_moved(["alice"])
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_delete_generations", note_after_the_deletion)
        await cache.drop_moved()
    await cache.drop_moved()
    assert await find(cache, "alice", "jobs") is None


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, asyncio.CancelledError])
async def test_a_failed_drop_of_moved_jobs_is_repeated_and_bypasses_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr("app.cache._OWNERS_IN_A_CALL", 1)

    async def fail(_: Sequence[str]) -> None:
        raise error

    for owner in ("alice", "bob", "carol"):
        await store(cache, owner, "jobs", b"response")
    cache.note_moved(["alice", "bob"])
    with monkeypatch.context() as patch, suppress(asyncio.CancelledError):
        patch.setattr(cache, "_delete_generations", fail)
        await cache.drop_moved()
    assert await find(cache, "carol", "jobs") == b"response"
    await cache.drop_moved()
    assert await find(cache, "alice", "jobs") is None
    assert await find(cache, "bob", "jobs") is None


async def test_a_failed_drop_after_a_write_is_repeated_with_those_of_moved_jobs(
    cache: Cache, redis: Redis, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Cache(redis, ttl=TTL, clock=clock)
    await store(other, "alice", "jobs", b"outdated")

    async def fail(_: Sequence[str]) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_delete_generations", fail)
        await cache.invalidate("alice")
    await cache.drop_moved()
    assert await find(other, "alice", "jobs") is None


async def test_a_write_drops_responses_while_redis_has_no_memory_left(
    tmp_path: Path, clock: ManualClock
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    redis = Redis.from_url(server.uri)
    try:
        one, other = (Cache(redis, ttl=TTL, clock=clock) for _ in range(2))
        await store(one, "alice", "jobs", b"outdated")
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", "1")
        await one.invalidate("alice")
        assert await find(other, "alice", "jobs") is None
    finally:
        await redis.aclose()
        server.kill()


async def test_an_unreachable_redis_is_a_miss_and_one_log_line_a_minute(
    unreachable: Cache, clock: ManualClock
) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            assert await unreachable.find("alice", "jobs") == (None, None)
        await unreachable.invalidate("alice")
        clock.advance(timedelta(seconds=61))
        assert await unreachable.find("alice", "jobs") == (None, None)
    assert [log["event"] for log in logs] == ["cache_failed", "cache_failed"]


async def test_a_redis_that_does_not_respond_is_a_miss_within_the_time_limit(
    clock: ManualClock,
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        redis = Redis.from_url(f"redis://127.0.0.1:{port}/0")
        cache = Cache(redis, ttl=TTL, clock=clock)
        async with asyncio.timeout(2):
            assert await cache.find("alice", "jobs") == (None, None)
            await cache.invalidate("alice")
        await redis.aclose()


async def test_ping_raises_only_if_redis_is_unreachable(cache: Cache, unreachable: Cache) -> None:
    await cache.ping()
    with pytest.raises(UnavailableError):
        await unreachable.ping()
