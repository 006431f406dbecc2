"""Faults of the service's processes. Each is bounded in count and time and leaves every process
running."""

import asyncio
import signal
import time
from pathlib import Path

from tests.chaos.process import STEPS
from tests.chaos.run import FaultStep, Run, say
from tests.chaos.servers import Node

_LEASE_SECONDS = 5
_CRASH_SECONDS = 20
"""The time within which a process under load reaches every step."""
_MAX_PASSAGE = 30


def kills(times: int) -> FaultStep:
    """kill -9 a random process every second, and start it again at once."""

    async def fault(run: Run) -> None:
        say(f"{times} kills")
        for _ in range(times):
            node = run.pick()
            run.journal.fault("kill", node.pid)
            await node.kill()
            node.start()
            await asyncio.sleep(1)
        await run.all_ready()

    return fault


def crash_points(times: int) -> FaultStep:
    """kill -9 at each step, `times` each."""

    async def fault(run: Run) -> None:
        for step in [step for step in STEPS for _ in range(times)]:
            await _crash(run, step)
        await run.all_ready()

    return fault


async def _crash(run: Run, step: str) -> None:
    """Start a process that kills itself at the step, then start it again without that setting."""
    node = run.pick()
    run.journal.fault("kill", node.pid)
    await node.kill()
    passage = 1 if step == "after_reap" else run.random.randint(1, _MAX_PASSAGE)
    node.start(CRASH_AT=step, CRASH_PASSAGE=str(passage))
    began = time.monotonic()
    if step == "after_reap":
        await _provide_expired_leases(run, node)
    code = await node.wait(_CRASH_SECONDS)
    run.journal.fault(f"crash {step}", node.pid)
    say(f"crash {step} at passage {passage} after {time.monotonic() - began:.1f} s")
    assert code == -signal.SIGKILL, f"process {node.number} ended with {code}: see its log"
    node.start()


async def _provide_expired_leases(run: Run, reaper: Node) -> None:
    """Kill the other processes while they run executions, so that this process reaps those.

    It may reap executions of an earlier crash before that, even before it is ready.
    """
    if not await run.is_ready(reaper):
        return
    others = [node for node in run.nodes if node is not reaper]
    for node in others:
        run.journal.fault("kill", node.pid)
        await node.kill()
    await asyncio.sleep(_LEASE_SECONDS + 3)
    for node in others:
        node.start()


def kill_all(times: int) -> FaultStep:
    """kill -9 all, back after 3 s."""

    async def fault(run: Run) -> None:
        for _ in range(times):
            say("kill all")
            for node in run.nodes:
                run.journal.fault("kill", node.pid)
                await node.kill()
            await asyncio.sleep(3)
            for node in run.nodes:
                node.start()
            await run.all_ready()
            await asyncio.sleep(_LEASE_SECONDS)

    return fault


def freeze(times: int) -> FaultStep:
    """SIGSTOP a process until its leases have run out, then SIGCONT."""

    async def fault(run: Run) -> None:
        for _ in range(times):
            say("freeze")
            node = run.pick()
            run.journal.fault("freeze", node.pid)
            node.send(signal.SIGSTOP)
            await asyncio.sleep(_LEASE_SECONDS + 2)
            node.send(signal.SIGCONT)
            run.journal.fault("thaw", node.pid)
            await asyncio.sleep(2)

    return fault


def rolling(times: int) -> FaultStep:
    """SIGTERM one process after the other; each is ready again before the next one is stopped."""

    async def fault(run: Run) -> None:
        for n in range(times):
            node = run.nodes[n % len(run.nodes)]
            await _start_again(run, node)
            await run.all_ready()
            await asyncio.sleep(1)

    return fault


def clocks(times: int) -> FaultStep:
    """The wall clock of one process is an hour fast for 15 s, then an hour slow."""

    async def fault(run: Run) -> None:
        node, wall_clock = run.nodes[0], _faketime()
        run.driver.exclude(node.url)  # its clock makes every token expired or not yet valid
        for offset in ["+1h", "-1h"] * times:
            say(f"clock {offset}")
            run.journal.fault(f"clock {offset}", node.pid)
            await _start_again(run, node, FAKETIME=offset, **wall_clock)
            await asyncio.sleep(15)
        await _start_again(run, node)
        run.driver.include(node.url)

    return fault


def _faketime() -> dict[str, str]:
    """The settings under which a process reads another wall clock, and the same monotonic one."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert found is not None, "There is no libfaketime: apt-get install faketime."
    return {"LD_PRELOAD": str(found), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def _start_again(run: Run, node: Node, **settings: str) -> None:
    run.journal.fault("term", node.pid)
    node.send(signal.SIGTERM)
    code = await node.wait()
    say(f"SIGTERM: exit code {code}")
    assert code == 0, f"process {node.number} ended with {code}: see its log"
    node.start(**settings)
    assert await run.is_ready(node), f"process {node.number} ended: see its log"
