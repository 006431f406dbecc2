"""A loop never dies of a failing round, rests as it is told, and stops when asked."""

import asyncio
from datetime import timedelta

from app.engine.loop import AT_ONCE, Loop
from app.errors import UnavailableError
from tests.support.clock import ManualClock

LONG = timedelta(hours=1)


class Rounds:
    """A tick that answers from a list and then stands still."""

    def __init__(self, *answers: timedelta | Exception) -> None:
        self.answers = list(answers)
        self.count = 0
        self.idle = asyncio.Event()

    async def tick(self) -> timedelta:
        self.count += 1
        if not self.answers:
            self.idle.set()
            return LONG
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def run_until_idle(rounds: Rounds, wake: asyncio.Event | None = None) -> Loop:
    loop = Loop("test", rounds.tick, clock=ManualClock(), wake=wake)
    loop.start()
    async with asyncio.timeout(5):
        await rounds.idle.wait()
    return loop


async def test_it_goes_on_at_once_while_more_waits() -> None:
    rounds = Rounds(AT_ONCE, AT_ONCE)
    loop = await run_until_idle(rounds)
    await loop.stop()
    assert rounds.count == 3


async def test_it_survives_an_outage_and_a_bug() -> None:
    rounds = Rounds(UnavailableError("no primary"), ZeroDivisionError())
    loop = await run_until_idle(rounds)
    assert loop.seconds_since_tick() == 0
    await loop.stop()


async def test_a_failed_round_is_no_tick() -> None:
    clock, entered = ManualClock(), asyncio.Event()

    async def fail() -> timedelta:
        entered.set()
        raise UnavailableError("no primary")

    loop = Loop("test", fail, clock=clock)
    loop.start()
    await entered.wait()
    assert loop.seconds_since_tick() is None
    await loop.stop()


async def test_a_wake_up_ends_a_rest() -> None:
    wake = asyncio.Event()
    rounds = Rounds()
    loop = await run_until_idle(rounds, wake)
    rounds.idle.clear()
    wake.set()
    async with asyncio.timeout(5):
        await rounds.idle.wait()
    await loop.stop()
    assert rounds.count == 2


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
    await loop.stop()


async def test_stopping_ends_a_rest() -> None:
    loop = await run_until_idle(Rounds())
    async with asyncio.timeout(5):
        await loop.stop()
