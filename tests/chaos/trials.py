"""Every trial: a fault, how often the short tier repeats it, and on which servers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos import faults, outages
from tests.chaos.receiver import HOSTILE
from tests.chaos.run import FaultStep, Run, say


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault that `python -m tests.chaos NAME` runs."""

    fault: Callable[[int], FaultStep]
    times: int
    replica_set: bool = False
    """Three mongods instead of one."""
    paths: Sequence[str] = ()
    """Paths at which the receiver misbehaves; two jobs call each."""


def edits(times: int) -> FaultStep:
    """Eight clients edit five jobs while slots fire, `times` edits in all."""

    async def fault(run: Run) -> None:
        say(f"{times} edits")
        await run.driver.race(times)

    return fault


def nothing(times: int) -> FaultStep:
    """Only the load, for `times` seconds."""

    async def fault(_: Run) -> None:
        await asyncio.sleep(times)

    return fault


TRIALS = {
    "kills": Trial(faults.kills, 60),
    "crash-points": Trial(faults.crash_points, 5),
    "kill-all": Trial(faults.kill_all, 3),
    "freeze": Trial(faults.freeze, 5),
    "rolling": Trial(faults.rolling, 10),
    "clocks": Trial(faults.clocks, 1),
    "step-downs": Trial(outages.step_downs, 6, replica_set=True),
    "primary-killed": Trial(outages.primary_killed, 1, replica_set=True),
    "primary-frozen": Trial(outages.primary_frozen, 1, replica_set=True),
    "lagging-majority": Trial(outages.lagging_majority, 1, replica_set=True),
    "bad-responses": Trial(outages.bad_responses, 1),
    "redis": Trial(outages.redis, 1),
    "hostile": Trial(nothing, 30, paths=HOSTILE),
    "neighbour": Trial(nothing, 30, paths=["hang"] * 50),
    "edits": Trial(edits, 500),
    "nothing": Trial(nothing, 20),
}
