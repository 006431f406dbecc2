"""Faults under load, then the checker: `python -m tests.chaos NAME --seed N [--times T]`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.chaos.chaos_run import FaultStep, Options, carry_out, say
from tests.chaos.driver import Load
from tests.chaos.faults import (
    crash_at_each_step,
    freeze_process,
    kill_processes,
    restart_in_turn,
)
from tests.chaos.outages import delay_majority, step_down_primary
from tests.chaos.trials import TRIALS, Trial, apply_only_load
from tests.support.variants import VARIANTS

_PERIOD_SECONDS = 2
_START_SECONDS = 30
_CREATIONS_A_SECOND = 50
_SIMULTANEOUS_JOBS = 1_000


def main() -> None:
    names = [*TRIALS, "contention", "smoke", "short"]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, help="how often the fault is repeated")
    parser.add_argument(
        "--jobs", type=int, default=_SIMULTANEOUS_JOBS, help="for contention: how many jobs"
    )
    parser.add_argument("--rate", type=int, default=50, help="slots due per second")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument(
        "--broken", choices=sorted(VARIANTS), help="use a broken variant of the engine"
    )
    options = parser.parse_args()
    began = time.monotonic()
    passed = asyncio.run(_run_named(options))
    say(f"{options.name} --seed {options.seed}: {time.monotonic() - began:.0f} s")
    sys.exit(0 if passed else 1)


async def _run_named(options: argparse.Namespace) -> bool:
    match options.name:
        case "smoke":
            with_one_mongod = [
                crash_at_each_step(1),
                kill_processes(20),
                freeze_process(1),
                restart_in_turn(2),
            ]
            passed = await _run_faults(options, with_one_mongod)
            passed = await _run_faults(options, [step_down_primary(2)], replica_set=True) and passed
            return await _detects_acknowledged_by_one(options) and passed
        case "short":
            passed = True
            for name, trial in TRIALS.items():
                say(f"== {name}")
                passed = await _run_trial(options, trial, trial.times) and passed
            return await _run_contention(options) and passed
        case "contention":
            return await _run_contention(options)
        case name:
            trial = TRIALS[name]
            return await _run_trial(options, trial, options.times or trial.times)


async def _run_trial(options: argparse.Namespace, trial: Trial, times: int) -> bool:
    faults = [trial.fault(times)]
    return await _run_faults(options, faults, replica_set=trial.replica_set, paths=trial.paths)


async def _run_faults(
    options: argparse.Namespace,
    faults: list[FaultStep],
    *,
    replica_set: bool = False,
    paths: Sequence[str] = (),
) -> bool:
    jobs = options.rate * _PERIOD_SECONDS
    run_options = Options(
        seed=options.seed,
        processes=options.processes,
        load=Load(jobs=jobs, period=_PERIOD_SECONDS, paths=paths),
        replica_set=replica_set,
        broken=options.broken,
    )
    return await carry_out(run_options, faults)


async def _detects_acknowledged_by_one(options: argparse.Namespace) -> bool:
    """Whether the checker detects the lost writes if one member's acknowledgement is enough.

    This variant shows only after a failover. The life tests detect all others.
    """
    say("with acknowledged_by_one, which the checker must detect")
    broken = argparse.Namespace(**vars(options) | {"broken": "acknowledged_by_one"})
    detected = not await _run_faults(broken, [delay_majority(1)], replica_set=True)
    say("detected, as required" if detected else "NOT DETECTED")
    return detected


async def _run_contention(options: argparse.Namespace) -> bool:
    """Run four processes, and let every job be due at one instant."""
    jobs: int = options.jobs
    begins_in = timedelta(seconds=_START_SECONDS + jobs / _CREATIONS_A_SECOND)
    all_at = datetime.now(UTC).replace(microsecond=0) + begins_in
    run_options = Options(
        seed=options.seed, processes=4, load=Load(jobs=jobs, all_at=all_at), calls=False
    )

    async def wait_until_due(_: object) -> None:
        await asyncio.sleep(max(0.0, (all_at - datetime.now(UTC)).total_seconds()))

    return await carry_out(run_options, [wait_until_due, apply_only_load(10)])


if __name__ == "__main__":
    main()
