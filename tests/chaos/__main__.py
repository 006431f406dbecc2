"""Faults under load, then the checker: `python -m tests.chaos NAME --seed N [--times T]`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import timedelta

from tests.chaos.chaos_run import Options, carry_out
from tests.chaos.faults import (
    crash_at_each_step,
    freeze_processes,
    kill_processes,
    restart_in_turn,
)
from tests.chaos.herd import CATCH_UP_POLICIES, release_herds
from tests.chaos.hostile.attacks import ATTACKS
from tests.chaos.hostile.trial import carry_out_attacks
from tests.chaos.outages import delay_majority, step_down_primary
from tests.chaos.testbed import FaultStep, say
from tests.chaos.trials import TRIALS, Trial
from tests.chaos.workload import Workload
from tests.support.variants import VARIANTS

_PERIOD_SECONDS = 2
_SIMULTANEOUS_JOBS = 10_000


def main() -> None:
    names = [*TRIALS, "contention", "hostile-clients", "smoke", "short"]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, help="how often the fault is repeated")
    parser.add_argument(
        "--jobs",
        type=int,
        default=_SIMULTANEOUS_JOBS,
        help="for contention: how many jobs are due at once, under each catch-up policy",
    )
    parser.add_argument("--rate", type=int, default=50, help="slots due per second")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument(
        "--broken", choices=sorted(VARIANTS), help="use a broken variant of the engine"
    )
    parser.add_argument(
        "--attack", choices=sorted(ATTACKS), help="for hostile-clients: only this attack"
    )
    options = parser.parse_args()
    began = time.monotonic()
    passed = asyncio.run(_run_named(options))
    say(f"{options.name} --seed {options.seed}: {time.monotonic() - began:.0f} s")
    sys.exit(0 if passed else 1)


async def _run_named(options: argparse.Namespace) -> bool:
    match options.name:
        case "smoke":
            return await _run_smoke(options)
        case "short":
            passed = True
            for name, trial in TRIALS.items():
                say(f"== {name}")
                passed = await _run_trial(options, trial, trial.times) and passed
            say("== contention")
            return await _run_contention(options) and passed
        case "contention":
            return await _run_contention(options)
        case "hostile-clients":
            return await carry_out_attacks(options.attack)
        case name:
            trial = TRIALS[name]
            return await _run_trial(options, trial, options.times or trial.times)


async def _run_smoke(options: argparse.Namespace) -> bool:
    """Run the faults that show most: one mongod, a replica set, and a variant to be detected."""
    faults = [
        crash_at_each_step(1),
        kill_processes(3),
        freeze_processes(2, longest=10),
        restart_in_turn(1),
    ]
    expected = {"kill": 13, "freeze": 2, "term": 1}
    passed = not await carry_out(_make_options(options, expected=expected), faults)
    slower = argparse.Namespace(**vars(options) | {"rate": min(options.rate, _SET_RATE)})
    with_set = _make_options(slower, replica_set=True, expected={"step-down": 2})
    passed = not await carry_out(with_set, [step_down_primary(2)]) and passed
    return await _detects_acknowledged_by_one(slower) and passed


async def _run_trial(options: argparse.Namespace, trial: Trial, times: int) -> bool:
    run_options = _make_options(
        options,
        trial=trial,
        replica_set=trial.replica_set,
        expected=dict.fromkeys(trial.records, times),
    )
    return not await carry_out(run_options, [trial.fault(times)])


def _make_options(
    options: argparse.Namespace,
    *,
    trial: Trial | None = None,
    replica_set: bool = False,
    expected: Mapping[str, int],
) -> Options:
    load = Workload(
        jobs=options.rate * _PERIOD_SECONDS,
        period=timedelta(seconds=_PERIOD_SECONDS),
        paths=trial.paths if trial else (),
        silent_names=trial.silent_names if trial else 0,
        large=trial.large if trial else False,
    )
    return Options(
        seed=options.seed,
        processes=options.processes,
        load=load,
        replica_set=replica_set,
        broken=options.broken,
        expected_faults=expected,
    )


_SET_RATE = 30
"""Slots per second of the short runs with three mongods: two cores have room for no more."""

_LOST_WRITES = {"no slot missing", "acknowledged writes kept", "each delivery is in its attempt"}
"""The invariants that detect lost writes. A slow machine does not violate them."""


async def _detects_acknowledged_by_one(options: argparse.Namespace) -> bool:
    """Whether the checker detects the lost writes if one member's acknowledgement is enough.

    This variant shows only after a failover. The life tests detect all others.
    """
    say("with acknowledged_by_one, which the checker must detect")
    broken = argparse.Namespace(**vars(options) | {"broken": "acknowledged_by_one"})
    faults: list[FaultStep] = [delay_majority(1)]
    violated = await carry_out(_make_options(broken, replica_set=True, expected={}), faults)
    detected = not violated.isdisjoint(_LOST_WRITES)
    say("detected, as required" if detected else "NOT DETECTED")
    return detected


async def _run_contention(options: argparse.Namespace) -> bool:
    """Run four processes, and let all jobs of a herd be due at one instant."""
    run_options = Options(
        seed=options.seed,
        processes=4,
        load=Workload(jobs=0),
        users=False,
        herds=len(CATCH_UP_POLICIES) * options.jobs,
        broken=options.broken,
    )
    return not await carry_out(run_options, [release_herds(options.jobs)])


if __name__ == "__main__":
    main()
