"""The order in which the parts of the engine stop."""

import asyncio
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from app.engine.engine import Engine
from app.wake import Wake
from tests.support.clock import ManualClock
from tests.support.waiting import run_other_tasks

LONG = timedelta(hours=1)


class Worker:
    """Notes which loops still run while the running attempts get their grace."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.running_while_draining: set[str] = set()

    async def tick(self) -> timedelta:
        return LONG

    watch = guard = tick

    async def drain(self, grace: timedelta) -> None:
        assert self.engine is not None
        self.running_while_draining = {
            loop.name
            for loop in self.engine.loops
            if loop._task is not None and not loop._task.done()
        }


async def test_cancels_and_leases_are_watched_until_the_last_attempt_ends() -> None:
    worker: Any = Worker()
    engine = Engine(wake=Wake(Redis()), clock=ManualClock(), worker=worker)
    worker.engine = engine
    for loop in engine.loops:
        loop.start()
    await engine.stop(timedelta(0))
    assert worker.running_while_draining == {"watch", "guard"}
    assert all(loop._task is not None and loop._task.done() for loop in engine.loops)


class HungWorker(Worker):
    """Its first round waits for something that never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.graces: list[timedelta] = []

    async def tick(self) -> timedelta:
        self.began.set()
        await asyncio.Event().wait()
        return LONG

    async def drain(self, grace: timedelta) -> None:
        self.graces.append(grace)


async def test_a_hung_round_delays_the_end_by_the_grace_at_most() -> None:
    clock, grace = ManualClock(), timedelta(seconds=30)
    worker: Any = HungWorker()
    engine = Engine(wake=Wake(Redis()), clock=clock, worker=worker)
    for loop in engine.loops:
        loop.start()
    async with asyncio.timeout(5):
        await worker.began.wait()
        stopping = asyncio.create_task(engine.stop(grace))
        await run_other_tasks(3)
        clock.advance(grace)
        await stopping
    assert worker.graces == [timedelta(0)]
    assert all(loop._task is not None and loop._task.done() for loop in engine.loops)
