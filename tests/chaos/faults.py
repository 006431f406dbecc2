"""The faults. Each is bounded in count and time and leaves every process running."""

import asyncio
import signal
import time
from collections.abc import Callable

from pymongo.errors import PyMongoError

from tests.chaos.process import STEPS
from tests.chaos.run import FaultStep, Run, say
from tests.chaos.servers import Node

_LEASE_SECONDS = 5
_CRASH_SECONDS = 20
"""A process under load comes to every step within this time."""
_MOST_PASSAGES = 30


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
    """A process is made to end by itself; started again without that, it goes on."""
    node = run.pick()
    run.journal.fault("kill", node.pid)
    await node.kill()
    passage = 1 if step == "after_reap" else run.random.randint(1, _MOST_PASSAGES)
    node.start(CRASH_AT=step, CRASH_PASSAGE=str(passage))
    began = time.monotonic()
    if step == "after_reap":
        await _leave_something_to_reap(run, node)
    code = await node.wait(_CRASH_SECONDS)
    run.journal.fault(f"crash {step}", node.pid)
    say(f"crash {step} at passage {passage} after {time.monotonic() - began:.1f} s")
    assert code == -signal.SIGKILL, f"process {node.number} ended with {code}: see its log"
    node.start()


async def _leave_something_to_reap(run: Run, reaper: Node) -> None:
    """The others die with work in their hands, so that it is left to this one. It may find
    something of an earlier crash before that, even before it is ready."""
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
    """SIGTERM one process after the other; each is back before the next one goes."""

    async def fault(run: Run) -> None:
        for n in range(times):
            node = run.nodes[n % len(run.nodes)]
            run.journal.fault("term", node.pid)
            node.send(signal.SIGTERM)
            code = await node.wait()
            say(f"SIGTERM: exit code {code}")
            assert code == 0, f"process {node.number} ended with {code}: see its log"
            node.start()
            await run.all_ready()
            await asyncio.sleep(1)

    return fault


def step_downs(times: int) -> FaultStep:
    """The primary steps down, every 10 s."""

    async def fault(run: Run) -> None:
        for _ in range(times):
            began = time.monotonic()
            run.journal.fault("step-down")
            try:
                await asyncio.to_thread(run.members().step_down)
            except PyMongoError as error:
                say(f"step-down: {error}")
            port = await asyncio.to_thread(run.members().primary)
            say(f"step-down: {port} is primary after {time.monotonic() - began:.1f} s")
            await asyncio.sleep(max(0.0, began + 10 - time.monotonic()))

    return fault


def primary_killed(times: int) -> FaultStep:
    """kill -9 the primary; it is back when there is another."""

    async def fault(run: Run) -> None:
        members = run.members()
        for _ in range(times):
            port = await asyncio.to_thread(members.primary)
            began = time.monotonic()
            run.journal.fault("primary killed")
            await asyncio.to_thread(members.kill_member, port)
            await asyncio.to_thread(members.primary)
            say(f"primary killed: another one after {time.monotonic() - began:.1f} s")
            run.journal.fault("new primary")
            members.start_member(port)
            await asyncio.sleep(10)

    return fault


def lagging_majority(times: int) -> FaultStep:
    """Nothing reaches the secondaries for 3 s, then the primary is killed: what only it had is
    undone when it comes back."""

    async def fault(run: Run) -> None:
        members = run.members()
        for _ in range(times):
            port = await asyncio.to_thread(members.primary)
            run.journal.fault("lagging majority")
            await asyncio.to_thread(members.replicate, port, on=False)
            await asyncio.sleep(3)
            run.journal.fault("primary killed")
            await asyncio.to_thread(members.kill_member, port)
            await asyncio.to_thread(members.replicate, port, on=True)
            began = time.monotonic()
            await asyncio.to_thread(members.primary)
            say(f"lagging majority: another primary after {time.monotonic() - began:.1f} s")
            run.journal.fault("new primary")
            members.start_member(port)
            await asyncio.sleep(10)

    return fault


def primary_frozen(times: int) -> FaultStep:
    """SIGSTOP the primary until there is another, and 5 s longer."""

    async def fault(run: Run) -> None:
        members = run.members()
        for _ in range(times):
            port = await asyncio.to_thread(members.primary)
            began = time.monotonic()
            run.journal.fault("primary frozen")
            members.send(port, signal.SIGSTOP)
            try:
                other = await asyncio.to_thread(members.primary, besides=port)
                say(f"primary frozen: {other} instead after {time.monotonic() - began:.1f} s")
                run.journal.fault("new primary")
                await asyncio.sleep(5)
            finally:
                members.send(port, signal.SIGCONT)
            await asyncio.sleep(10)

    return fault


def bad_answers(times: int) -> FaultStep:
    """One in ten commands of the service goes wrong in each of the ways, for 5 s each."""

    async def fault(run: Run) -> None:
        for name, data in [*_BAD_ANSWERS.items()] * times:
            say(name)
            run.journal.fault(name)
            await asyncio.to_thread(run.fail_commands, data, probability=0.1)
            await asyncio.sleep(5)
            await asyncio.to_thread(run.fail_commands, data, probability=0)

    return fault


_WRITES = ["insert", "update", "findAndModify", "delete"]
_BAD_ANSWERS: dict[str, dict[str, object]] = {
    "broken connections": {"failCommands": [*_WRITES, "find"], "closeConnection": True},
    "errors": {"failCommands": [*_WRITES, "find"], "errorCode": 11602},
    "done, but with an error": {
        "failCommands": _WRITES,
        "writeConcernError": {"code": 91, "errmsg": "shutting down"},
    },
    "slow answers": {
        "failCommands": [*_WRITES, "find"],
        "blockConnection": True,
        "blockTimeMS": 1_000,
    },
}
"""Of the fail point `failCommand`."""


def redis(times: int) -> FaultStep:
    """Redis is killed and comes back empty, is frozen, flushed over and over, and full."""

    async def fault(run: Run) -> None:
        server = run.redis
        for _ in range(times):
            say("Redis killed")
            run.journal.fault("redis killed")
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(5)
            await asyncio.to_thread(server.start)
            await asyncio.sleep(2)
            say("Redis frozen")
            run.journal.fault("redis frozen")
            server.send(signal.SIGSTOP)
            await asyncio.sleep(10)
            server.send(signal.SIGCONT)
            await asyncio.sleep(2)
            say("Redis flushed")
            run.journal.fault("redis flushed")
            for _ in range(50):
                await asyncio.to_thread(server.execute, "FLUSHALL")
                await asyncio.sleep(0.1)
            say("Redis full")
            run.journal.fault("redis full")
            await asyncio.to_thread(server.execute, "CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(5)
            await asyncio.to_thread(server.execute, "CONFIG", "SET", "maxmemory", "0")
            await asyncio.sleep(2)

    return fault


def edits(times: int) -> FaultStep:
    """Eight clients edit five jobs, so often in all, while slots fire."""

    async def fault(run: Run) -> None:
        say(f"{times} edits")
        await run.driver.race(times)

    return fault


def nothing(times: int) -> FaultStep:
    """The load alone, for `times` seconds."""

    async def fault(_: Run) -> None:
        await asyncio.sleep(times)

    return fault


FAULTS: dict[str, tuple[Callable[[int], FaultStep], int]] = {
    "kills": (kills, 60),
    "crash-points": (crash_points, 5),
    "kill-all": (kill_all, 3),
    "freeze": (freeze, 5),
    "rolling": (rolling, 10),
    "step-downs": (step_downs, 6),
    "primary-killed": (primary_killed, 1),
    "primary-frozen": (primary_frozen, 1),
    "bad-answers": (bad_answers, 1),
    "lagging-majority": (lagging_majority, 1),
    "redis": (redis, 1),
    "edits": (edits, 500),
    "nothing": (nothing, 20),
}
"""Each with how often the short tier does it."""

ON_A_REPLICA_SET = {"step-downs", "primary-killed", "primary-frozen", "lagging-majority"}
