"""A timeout of the system clock ends in real time. A timeout of the manual clock ends when a test
moves the clock."""

import asyncio
from datetime import timedelta

import pytest

from app.clock import Clock, SystemClock
from tests.support.clock import ManualClock
from tests.support.waiting import eventually, run_other_tasks

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)


async def wait_forever(clock: Clock, limit: timedelta) -> None:
    async with clock.timeout(limit):
        await asyncio.Event().wait()


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
@pytest.mark.parametrize("limit", [timedelta(0), -SECOND], ids=["zero", "negative"])
async def test_a_timeout_of_zero_or_less_ends_its_body(clock: Clock, limit: timedelta) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await wait_forever(clock, limit)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
async def test_a_body_that_ends_in_time_is_not_cancelled(clock: Clock) -> None:
    async with clock.timeout(SECOND):
        await run_other_tasks()


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
async def test_a_cancelled_body_stays_cancelled(clock: Clock) -> None:
    waiting = asyncio.create_task(wait_forever(clock, SECOND))
    await run_other_tasks()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_system_clock_ends_a_body_after_the_delay() -> None:
    clock = SystemClock()
    started = clock.monotonic()
    with pytest.raises(TimeoutError):
        await wait_forever(clock, 20 * MILLISECOND)
    assert clock.monotonic() - started >= 0.02


async def test_the_manual_clock_ends_the_bodies_that_are_due() -> None:
    clock = ManualClock()
    first = asyncio.create_task(wait_forever(clock, SECOND))
    second = asyncio.create_task(wait_forever(clock, 2 * SECOND))
    await eventually(lambda: clock.timer_count == 2)
    clock.advance(SECOND - MILLISECOND)
    await run_other_tasks(5)
    assert not first.done()
    clock.advance(MILLISECOND)
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    clock.advance(SECOND)
    with pytest.raises(TimeoutError):
        await second
    assert clock.timer_count == 0


async def test_a_body_that_ends_before_the_clock_moves_is_not_cancelled() -> None:
    clock, done = ManualClock(), asyncio.Event()

    async def wait() -> None:
        async with clock.timeout(SECOND):
            await done.wait()

    waiting = asyncio.create_task(wait())
    await eventually(lambda: clock.timer_count == 1)
    done.set()
    await run_other_tasks()
    clock.advance(SECOND)
    await waiting


def test_the_manual_clock_moves_while_no_event_loop_runs() -> None:
    clock = ManualClock()
    loop = asyncio.new_event_loop()
    try:
        waiting = loop.create_task(wait_forever(clock, SECOND))
        loop.run_until_complete(run_other_tasks())
        clock.advance(SECOND)
        with pytest.raises(TimeoutError):
            loop.run_until_complete(waiting)
    finally:
        loop.close()
