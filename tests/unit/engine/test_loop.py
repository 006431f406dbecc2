"""A loop continues after a failed round, waits for the time that `tick` returns, and can be
stopped."""

import asyncio
from datetime import timedelta

from app.clock import SystemClock
from app.engine.loop import AT_ONCE, ROUND_LIMIT, Loop
from app.errors import UnavailableError
from app.services.health import LoopProbe
from tests.support.clock import ManualClock
from tests.support.waiting import run_other_tasks

LONG = timedelta(hours=1)


class ScriptedTick:
    """A tick that returns or raises the given results, and then returns a long wait."""

    def __init__(self, *results: timedelta | Exception) -> None:
        self.results = list(results)
        self.count = 0
        self.idle = asyncio.Event()

    async def tick(self) -> timedelta:
        self.count += 1
        if not self.results:
            self.idle.set()
            return LONG
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


async def run_until_idle(ticks: ScriptedTick, wake: asyncio.Event | None = None) -> Loop:
    loop = Loop("test", ticks.tick, clock=ManualClock(), wake=wake)
    loop.start()
    async with asyncio.timeout(5):
        await ticks.idle.wait()
    return loop


async def test_a_loop_continues_immediately_while_there_is_more_work() -> None:
    ticks = ScriptedTick(AT_ONCE, AT_ONCE)
    loop = await run_until_idle(ticks)
    await loop.stop(LONG)
    assert ticks.count == 3


async def test_a_loop_waits_for_the_time_that_its_tick_returns() -> None:
    wait = timedelta(milliseconds=50)
    ticks = ScriptedTick(wait)
    clock = SystemClock()
    started = clock.monotonic()
    loop = await run_until_idle(ticks)
    assert clock.monotonic() - started >= wait.total_seconds()
    await loop.stop(LONG)
    assert ticks.count == 2


async def test_a_loop_continues_after_expected_and_unexpected_errors() -> None:
    ticks = ScriptedTick(UnavailableError("no primary"), ZeroDivisionError())
    loop = await run_until_idle(ticks)
    assert loop.get_seconds_overdue() == 0
    await loop.stop(LONG)


async def test_the_time_until_the_next_try_doubles_up_to_five_seconds() -> None:
    error = UnavailableError("no primary")
    ticks = ScriptedTick(*[error] * 9, AT_ONCE, error)
    loop = Loop("test", ticks.tick, clock=ManualClock())
    rests = [(await loop._round()).total_seconds() for _ in range(11)]
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 0, 0.1]


async def test_a_failed_round_does_not_count_as_a_tick() -> None:
    clock, entered = ManualClock(), asyncio.Event()

    async def fail() -> timedelta:
        entered.set()
        raise UnavailableError("no primary")

    loop = Loop("test", fail, clock=clock)
    loop.start()
    await entered.wait()
    assert loop.get_seconds_overdue() is None
    await loop.stop(LONG)


async def test_a_hung_round_is_cancelled_and_the_next_one_runs() -> None:
    clock, hung, again = ManualClock(), asyncio.Event(), asyncio.Event()
    cancelled = 0

    async def tick() -> timedelta:
        nonlocal cancelled
        if hung.is_set():
            again.set()
            return LONG
        hung.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return AT_ONCE

    loop = Loop("test", tick, clock=clock)
    loop.start()
    async with asyncio.timeout(5):
        await hung.wait()
        clock.advance(ROUND_LIMIT - timedelta(seconds=1))
        await run_other_tasks(3)
        assert cancelled == 0
        clock.advance(timedelta(seconds=1))
        await again.wait()
    assert cancelled == 1
    await loop.stop(LONG)


async def test_a_loop_whose_round_hangs_is_not_ready() -> None:
    clock, hung = ManualClock(), asyncio.Event()
    rounds = 0

    async def tick() -> timedelta:
        nonlocal rounds
        rounds += 1
        if rounds > 1:
            hung.set()
            await asyncio.Event().wait()
        return AT_ONCE

    loop = Loop("test", tick, clock=clock)
    probe = LoopProbe(loop.name, loop.get_seconds_overdue)
    loop.start()
    async with asyncio.timeout(5):
        await hung.wait()
    assert probe.check() == "ok"
    clock.advance(timedelta(seconds=31))
    assert probe.check() == "is 31 s late with its next round"
    assert loop._task is not None
    loop._task.cancel()
    await asyncio.wait([loop._task])


async def test_a_wake_up_ends_a_wait() -> None:
    wake = asyncio.Event()
    ticks = ScriptedTick()
    loop = await run_until_idle(ticks, wake)
    ticks.idle.clear()
    wake.set()
    async with asyncio.timeout(5):
        await ticks.idle.wait()
    await loop.stop(LONG)
    assert ticks.count == 2


async def test_a_wake_up_during_a_round_is_not_lost() -> None:
    wake, again = asyncio.Event(), asyncio.Event()
    rounds = 0

    async def tick() -> timedelta:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            wake.set()
        else:
            again.set()
        return LONG

    loop = Loop("test", tick, clock=ManualClock(), wake=wake)
    loop.start()
    async with asyncio.timeout(5):
        await again.wait()
    await loop.stop(LONG)


async def test_a_stop_ends_a_wait() -> None:
    loop = await run_until_idle(ScriptedTick())
    async with asyncio.timeout(5):
        await loop.stop(LONG)


async def test_a_stop_cancels_a_round_that_does_not_end_within_the_grace() -> None:
    clock, hung, cancelled = ManualClock(), asyncio.Event(), asyncio.Event()

    async def tick() -> timedelta:
        hung.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return AT_ONCE

    loop = Loop("test", tick, clock=clock)
    loop.start()
    async with asyncio.timeout(5):
        await hung.wait()
        stopping = asyncio.create_task(loop.stop(timedelta(seconds=30)))
        await run_other_tasks(3)
        clock.advance(timedelta(seconds=29))
        await run_other_tasks(3)
        assert not cancelled.is_set()
        clock.advance(timedelta(seconds=1))
        await stopping
    assert cancelled.is_set()
