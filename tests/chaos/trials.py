"""The trials: for each name a fault, how often the short tier repeats it, and its servers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos import faults, outages
from tests.chaos.evidence import HANGING
from tests.chaos.process import STEPS
from tests.chaos.receiver import HOSTILE
from tests.chaos.testbed import FaultStep, Testbed, say


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault that `python -m tests.chaos NAME` applies."""

    fault: Callable[[int], FaultStep]
    times: int
    records: Sequence[str] = ()
    """The names of faults that the journal has at least as many times."""
    replica_set: bool = False
    paths: Sequence[str] = ()
    """Paths at which the receiver misbehaves; two jobs of another user call each."""
    silent_names: int = 0
    """Jobs of the other user whose receiver's name is not resolved."""
    large: bool = False
    """Whether each response of the receiver has 64 KB."""


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


_CRASHES = tuple(f"crash {step}" for step in STEPS)
_BAD_RESPONSES = tuple(outages.BAD_RESPONSES)
_REDIS = ("redis killed", "redis frozen", "redis flushed", "redis full")
_LAGGING = ("lagging majority", "primary killed", "new primary")

TRIALS = {
    "kills": Trial(faults.kill_processes, 60, ["kill"]),
    "crash-points": Trial(faults.crash_at_each_step, 5, _CRASHES),
    "kill-all": Trial(faults.kill_all_processes, 3, ["kill"]),
    "freeze": Trial(faults.freeze_processes, 6, ["freeze"]),
    "freeze-all": Trial(faults.freeze_all_processes, 1, ["freeze"]),
    "rolling": Trial(faults.restart_in_turn, 10, ["term"]),
    "clocks": Trial(faults.shift_clocks, 1, ["clock +1h", "clock -1h"]),
    "clock-jumps": Trial(faults.jump_clocks, 1, ["clock +60 s", "clock -60 s"]),
    "step-downs": Trial(outages.step_down_primary, 6, ["step-down"], replica_set=True),
    "primary-killed": Trial(outages.kill_primary, 1, ["primary killed"], replica_set=True),
    "primary-frozen": Trial(outages.freeze_primary, 1, ["primary frozen"], replica_set=True),
    "lagging-majority": Trial(outages.delay_majority, 1, _LAGGING, replica_set=True),
    "replication-lag": Trial(outages.slow_replication, 2, ["slow replication"], replica_set=True),
    "bad-responses": Trial(outages.spoil_responses, 1, _BAD_RESPONSES),
    "redis": Trial(outages.disturb_redis, 1, _REDIS),
    "hostile": Trial(apply_only_load, 30, paths=HOSTILE),
    "neighbour": Trial(apply_only_load, 30, paths=[HANGING] * 50),
    "silent-dns": Trial(apply_only_load, 30, silent_names=20),
    "large-responses": Trial(apply_only_load, 30, large=True),
    "edits": Trial(make_edits, 500),
    "nothing": Trial(apply_only_load, 30),
}
