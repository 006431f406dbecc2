"""The trials: for each name a fault, how often the short tier repeats it, and its servers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos import faults, outages
from tests.chaos.chaos_run import FaultStep, Testbed, say
from tests.chaos.receiver import HOSTILE


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault that `python -m tests.chaos NAME` applies."""

    fault: Callable[[int], FaultStep]
    times: int
    replica_set: bool = False
    paths: Sequence[str] = ()
    """Paths at which the receiver misbehaves; two jobs call each."""


def make_edits(times: int) -> FaultStep:
    """Let eight clients edit five jobs while slots fire, `times` edits in all."""

    async def apply(testbed: Testbed) -> None:
        say(f"{times} edits")
        await testbed.driver.race_edits(times)

    return apply


def apply_only_load(seconds: int) -> FaultStep:
    """Apply only the load, for `seconds`."""

    async def apply(_: Testbed) -> None:
        await asyncio.sleep(seconds)

    return apply


TRIALS = {
    "kills": Trial(faults.kill_processes, 60),
    "crash-points": Trial(faults.crash_at_each_step, 5),
    "kill-all": Trial(faults.kill_all_processes, 3),
    "freeze": Trial(faults.freeze_process, 5),
    "rolling": Trial(faults.restart_in_turn, 10),
    "clocks": Trial(faults.shift_clocks, 1),
    "step-downs": Trial(outages.step_down_primary, 6, replica_set=True),
    "primary-killed": Trial(outages.kill_primary, 1, replica_set=True),
    "primary-frozen": Trial(outages.freeze_primary, 1, replica_set=True),
    "lagging-majority": Trial(outages.delay_majority, 1, replica_set=True),
    "bad-responses": Trial(outages.spoil_responses, 1),
    "redis": Trial(outages.disturb_redis, 1),
    "hostile": Trial(apply_only_load, 30, paths=HOSTILE),
    "neighbour": Trial(apply_only_load, 30, paths=["hang"] * 50),
    "edits": Trial(make_edits, 500),
    "nothing": Trial(apply_only_load, 20),
}
