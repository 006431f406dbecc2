"""The order in which the parts of the engine stop, and what they say."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

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


class Keeper:
    """Holds the leases of some executions."""

    def __init__(self, held: int) -> None:
        self._held = held

    def count_held(self) -> int:
        return self._held

    async def stop(self) -> None:
        pass


@pytest.mark.parametrize("held", [0, 3])
async def test_a_stop_says_for_how_many_executions_it_waits_and_for_how_long(held: int) -> None:
    keeper: Any = Keeper(held)
    engine = Engine(wake=Wake(Redis()), clock=ManualClock(), keeper=keeper)
    with capture_logs() as lines:
        await engine.stop(timedelta(seconds=30))
    said = [
        (line["running"], line["grace_seconds"], line["setting"])
        for line in lines
        if line["event"] == "waiting_for_executions"
    ]
    assert said == ([(3, 30.0, "SHUTDOWN_GRACE_SECONDS")] if held else [])
