"""Wake-ups reach the loops of other processes, and losing them raises no error."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.wake import Wake
from tests.support.waiting import run_other_tasks


@pytest.fixture
async def wakes(redis_url: str) -> AsyncIterator[tuple[Wake, Wake]]:
    """The wake-ups of two processes, both subscribed."""
    clients = [Redis.from_url(redis_url) for _ in range(2)]
    one, two = (Wake(client) for client in clients)
    for wake in (one, two):
        wake.start()
        await wait_for(wake.schedules)  # set when the subscription begins
        wake.schedules.clear()
        wake.executions.clear()
    yield one, two
    for wake, client in zip((one, two), clients, strict=True):
        await wake.close()
        await client.aclose()


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def test_a_change_wakes_both_processes(wakes: tuple[Wake, Wake]) -> None:
    one, two = wakes
    one.wake_schedulers()
    assert one.schedules.is_set()
    await wait_for(two.schedules)


async def test_queued_executions_wake_the_workers(wakes: tuple[Wake, Wake]) -> None:
    one, two = wakes
    two.wake_workers()
    await wait_for(one.executions)


async def test_without_a_connection_to_redis_a_process_still_wakes_itself() -> None:
    client = Redis.from_url("redis://127.0.0.1:1")
    wake = Wake(client)
    wake.start()
    wake.wake_workers()
    wake.wake_schedulers()
    await run_other_tasks()
    assert wake.executions.is_set()
    assert wake.schedules.is_set()
    await wake.close()
    await client.aclose()
