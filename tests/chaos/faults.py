"""Faults of the service's processes. Each is bounded in count and time and leaves every process
running."""

import asyncio
import signal
import time
from pathlib import Path

from tests.chaos.chaos_run import FaultStep, Testbed, say
from tests.chaos.limits import LEASE_SECONDS
from tests.chaos.process import STEPS
from tests.chaos.servers import ServiceProcess

_CRASH_SECONDS = 20
"""The time within which a process under load reaches every step."""
_MAX_OCCURRENCE = 30


def kill_processes(times: int) -> FaultStep:
    """kill -9 a random process every second, and start it again at once."""

    async def apply(testbed: Testbed) -> None:
        say(f"{times} kills")
        for _ in range(times):
            process = testbed.choose_process()
            testbed.journal.record_fault("kill", process.pid)
            await process.kill()
            process.start()
            await asyncio.sleep(1)
        await testbed.wait_until_all_ready()

    return apply


def crash_at_each_step(times: int) -> FaultStep:
    """kill -9 a process at each step, `times` times."""

    async def apply(testbed: Testbed) -> None:
        for step in [step for step in STEPS for _ in range(times)]:
            await _crash(testbed, step)
        await testbed.wait_until_all_ready()

    return apply


async def _crash(testbed: Testbed, step: str) -> None:
    """Start a process that kills itself at the step, then start the process without CRASH_AT."""
    process = testbed.choose_process()
    testbed.journal.record_fault("kill", process.pid)
    await process.kill()
    occurrence = 1 if step == "after_reap" else testbed.random.randint(1, _MAX_OCCURRENCE)
    process.start(CRASH_AT=step, CRASH_OCCURRENCE=str(occurrence))
    began = time.monotonic()
    if step == "after_reap":
        await _provide_expired_leases(testbed, process)
    code = await process.wait(_CRASH_SECONDS)
    testbed.journal.record_fault(f"crash {step}", process.pid)
    say(f"crash {step} at occurrence {occurrence} after {time.monotonic() - began:.1f} s")
    assert code == -signal.SIGKILL, f"process {process.number} ended with {code}: see its log"
    process.start()


async def _provide_expired_leases(testbed: Testbed, reaper: ServiceProcess) -> None:
    """Kill the other processes, so that `reaper` reaps their executions.

    It may already have reached the step with executions of an earlier crash.
    """
    if not await testbed.wait_until_ready(reaper):
        return
    others = [process for process in testbed.processes if process is not reaper]
    for process in others:
        testbed.journal.record_fault("kill", process.pid)
        await process.kill()
    await asyncio.sleep(LEASE_SECONDS + 3)
    for process in others:
        process.start()


def kill_all_processes(times: int) -> FaultStep:
    """Kill all processes and start them after 3 s."""

    async def apply(testbed: Testbed) -> None:
        for _ in range(times):
            say("kill all")
            for process in testbed.processes:
                testbed.journal.record_fault("kill", process.pid)
                await process.kill()
            await asyncio.sleep(3)
            for process in testbed.processes:
                process.start()
            await testbed.wait_until_all_ready()
            await asyncio.sleep(LEASE_SECONDS)

    return apply


def freeze_process(times: int) -> FaultStep:
    """SIGSTOP a process until its leases have run out, then SIGCONT."""

    async def apply(testbed: Testbed) -> None:
        for _ in range(times):
            say("freeze")
            process = testbed.choose_process()
            testbed.journal.record_fault("freeze", process.pid)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_SECONDS + 2)
            process.send_signal(signal.SIGCONT)
            testbed.journal.record_fault("continue", process.pid)
            await asyncio.sleep(2)

    return apply


def restart_in_turn(times: int) -> FaultStep:
    """SIGTERM one process after the other; each is ready again before the next one is stopped."""

    async def apply(testbed: Testbed) -> None:
        for n in range(times):
            process = testbed.processes[n % len(testbed.processes)]
            await _start_again(testbed, process)
            await testbed.wait_until_all_ready()
            await asyncio.sleep(1)

    return apply


def shift_clocks(times: int) -> FaultStep:
    """Set the wall clock of one process an hour fast for 15 s, then an hour slow."""

    async def apply(testbed: Testbed) -> None:
        process, wall_clock = testbed.processes[0], _find_faketime()
        testbed.driver.exclude(process.url)  # its clock makes every token expired or not yet valid
        for offset in ["+1h", "-1h"] * times:
            say(f"clock {offset}")
            testbed.journal.record_fault(f"clock {offset}", process.pid)
            await _start_again(testbed, process, FAKETIME=offset, **wall_clock)
            await asyncio.sleep(15)
        await _start_again(testbed, process)
        testbed.driver.include(process.url)

    return apply


def _find_faketime() -> dict[str, str]:
    """Return the settings that shift a process's wall clock and keep its monotonic clock."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert found is not None, "There is no libfaketime: apt-get install faketime."
    return {"LD_PRELOAD": str(found), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def _start_again(testbed: Testbed, process: ServiceProcess, **settings: str) -> None:
    testbed.journal.record_fault("term", process.pid)
    process.send_signal(signal.SIGTERM)
    code = await process.wait()
    say(f"SIGTERM: exit code {code}")
    assert code == 0, f"process {process.number} ended with {code}: see its log"
    process.start(**settings)
    assert await testbed.wait_until_ready(process), f"process {process.number} ended: see its log"
