"""Faults of the service's processes. Each is bounded in count and time and leaves every process
running."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.limits import LEASE_SECONDS
from tests.chaos.process import STEPS
from tests.chaos.servers import ServiceProcess
from tests.chaos.testbed import FaultStep, Testbed, say

_CRASH_SECONDS = 20
"""The time within which a process under load reaches every step."""
_MAX_OCCURRENCE = 30


def kill_processes(times: int) -> FaultStep:
    """kill -9 a random process every second, and start it again at once."""

    async def apply(testbed: Testbed) -> None:
        say(f"{times} kills")
        for _ in range(times):
            process = testbed.choose_process()
            number = await testbed.kill(process)
            testbed.start(process, number)
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
    number = await testbed.kill(process)
    occurrence = 1 if step == "after_reap" else testbed.random.randint(1, _MAX_OCCURRENCE)
    testbed.start(process, number, CRASH_AT=step, CRASH_OCCURRENCE=str(occurrence))
    began = time.monotonic()
    killed = await _provide_expired_leases(testbed, process) if step == "after_reap" else []
    code = await process.wait(_CRASH_SECONDS)
    number = testbed.journal.record_fault(f"crash {step}", process.pid)
    say(f"crash {step} at occurrence {occurrence} after {time.monotonic() - began:.1f} s")
    assert code == -signal.SIGKILL, f"process {process.number} ended with {code}: see its log"
    testbed.start(process, number)
    for other, its_number in killed:
        testbed.start(other, its_number)


async def _provide_expired_leases(
    testbed: Testbed, reaper: ServiceProcess
) -> list[tuple[ServiceProcess, int]]:
    """Kill the other processes, so that `reaper` reaps their executions. Returns them with the
    numbers of their faults.

    It may already have reached the step with executions of an earlier crash.
    """
    if not await testbed.wait_until_ready(reaper):
        return []
    others = [process for process in testbed.processes if process is not reaper]
    return [(process, await testbed.kill(process)) for process in others]


def kill_all_processes(times: int) -> FaultStep:
    """Kill all processes and start them after 3 s, and every second time after 15 s. Then nobody
    has scheduled for longer than the 10 s after which slots are late."""

    async def apply(testbed: Testbed) -> None:
        for n in range(times):
            seconds = 15 if n % 2 else 3
            say(f"kill all for {seconds} s")
            numbers = [await testbed.kill(process) for process in testbed.processes]
            await asyncio.sleep(seconds)
            for process, number in zip(testbed.processes, numbers, strict=True):
                testbed.start(process, number)
            await testbed.wait_until_all_ready()
            await asyncio.sleep(LEASE_SECONDS)

    return apply


def freeze_processes(times: int, *, longest: float = 30) -> FaultStep:
    """SIGSTOP a process for 10 s to `longest`, so that its leases run out, then SIGCONT. Up to all
    but one process are frozen at once."""

    async def apply(testbed: Testbed) -> None:
        idle = list(testbed.processes)
        lanes = asyncio.Semaphore(len(idle) - 1)

        async def freeze_one() -> None:
            async with lanes:
                process = idle.pop(testbed.random.randrange(len(idle)))
                await _freeze([process], testbed, testbed.random.uniform(10, longest))
                await asyncio.sleep(2)
                idle.append(process)

        await asyncio.gather(*(freeze_one() for _ in range(times)))

    return apply


def freeze_all_processes(times: int) -> FaultStep:
    """Freeze all processes for 20 s twice, with 8 s between; one of them all the time.

    Slots are late if nobody has scheduled for more than 10 s after the time that the last tick
    covers. So each slot of the first seconds is late.
    """

    async def apply(testbed: Testbed) -> None:
        for _ in range(times):
            frozen = testbed.choose_process()
            others = [process for process in testbed.processes if process is not frozen]
            longest = asyncio.create_task(_freeze([frozen], testbed, 49))
            await _freeze(others, testbed, 20)
            await asyncio.sleep(8)
            await _freeze(others, testbed, 20)
            await longest
            await testbed.wait_until_all_ready()
            await asyncio.sleep(LEASE_SECONDS)

    return apply


async def _freeze(processes: Sequence[ServiceProcess], testbed: Testbed, seconds: float) -> None:
    numbers = ", ".join(str(process.number) for process in processes)
    say(f"freeze {numbers} for {seconds:.0f} s")
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.enter_context(testbed.journal.record_span("freeze", process.pid))
            stack.callback(process.send_signal, signal.SIGCONT)
            process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)


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
        for offset in ["+1h", "-1h"] * times:
            say(f"clock {offset}")
            await _start_again(testbed, process, FAKETIME=offset, **wall_clock)
            with testbed.journal.record_span(f"clock {offset}", process.pid):
                await asyncio.sleep(15)
        await _start_again(testbed, process)

    return apply


def jump_clocks(times: int) -> FaultStep:
    """Let the wall clock of a running process jump a minute forward and back, then back and
    forward. Each time it stays for 8 s."""

    async def apply(testbed: Testbed) -> None:
        process = testbed.processes[0]
        with tempfile.TemporaryDirectory() as folder:
            control = Path(folder) / "offset"
            control.write_text("+0")
            # libfaketime reads the file again every second.
            settings = {"FAKETIME_TIMESTAMP_FILE": str(control), "FAKETIME_CACHE_DURATION": "1"}
            await _start_again(testbed, process, **_find_faketime(), **settings)
            for offset in ["+60", "-60"] * times:
                say(f"clock {offset} s")
                with testbed.journal.record_span(f"clock {offset} s", process.pid):
                    control.write_text(offset)
                    await asyncio.sleep(8)
                    control.write_text("+0")
                    await asyncio.sleep(2)
                await asyncio.sleep(6)
            await _start_again(testbed, process)

    return apply


def _find_faketime() -> dict[str, str]:
    """Return the settings that shift a process's wall clock and keep its monotonic clock."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert found is not None, "There is no libfaketime: apt-get install faketime."
    return {"LD_PRELOAD": str(found), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def _start_again(testbed: Testbed, process: ServiceProcess, **settings: str) -> None:
    number = testbed.journal.record_fault("term", process.pid)
    process.send_signal(signal.SIGTERM)
    code = await process.wait()
    say(f"SIGTERM: exit code {code}")
    assert code == 0, f"process {process.number} ended with {code}: see its log"
    testbed.start(process, number, **settings)
    assert await testbed.wait_until_ready(process), f"process {process.number} ended: see its log"
