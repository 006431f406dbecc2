"""Faults of the databases. Each is bounded in count and time and leaves the databases running."""

import asyncio
import signal
import time

from pymongo.errors import PyMongoError

from tests.chaos.run import FaultStep, Run, say


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
    """kill -9 the primary; start it again when there is another one."""

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
    """Replication stops for 3 s, then the primary is killed. The writes that only it had are rolled
    back when it starts again."""

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
    """SIGSTOP the primary until 5 s after the election of another one."""

    async def fault(run: Run) -> None:
        members = run.members()
        for _ in range(times):
            port = await asyncio.to_thread(members.primary)
            began = time.monotonic()
            run.journal.fault("primary frozen")
            members.send(port, signal.SIGSTOP)
            try:
                other = await asyncio.to_thread(members.primary, other_than=port)
                say(f"primary frozen: {other} instead after {time.monotonic() - began:.1f} s")
                run.journal.fault("new primary")
                await asyncio.sleep(5)
            finally:
                members.send(port, signal.SIGCONT)
            await asyncio.sleep(10)

    return fault


def bad_responses(times: int) -> FaultStep:
    """One in ten commands of the service fails, in each way for 5 s."""

    async def fault(run: Run) -> None:
        for name, data in [*_BAD_RESPONSES.items()] * times:
            say(name)
            run.journal.fault(name)
            await asyncio.to_thread(run.fail_commands, data, probability=0.1)
            await asyncio.sleep(5)
            await asyncio.to_thread(run.fail_commands, data, probability=0)

    return fault


def redis(times: int) -> FaultStep:
    """Redis is killed and started empty, frozen, flushed repeatedly, and full."""

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
            server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(10)
            server.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)
            say("Redis flushed")
            run.journal.fault("redis flushed")
            for _ in range(50):
                await asyncio.to_thread(server.send_command, "FLUSHALL")
                await asyncio.sleep(0.1)
            say("Redis full")
            run.journal.fault("redis full")
            await asyncio.to_thread(server.send_command, "CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(5)
            await asyncio.to_thread(server.send_command, "CONFIG", "SET", "maxmemory", "0")
            await asyncio.sleep(2)

    return fault


_WRITES = ["insert", "update", "findAndModify", "delete"]
_BAD_RESPONSES: dict[str, dict[str, object]] = {
    "broken connections": {"failCommands": [*_WRITES, "find"], "closeConnection": True},
    "errors": {"failCommands": [*_WRITES, "find"], "errorCode": 11602},
    "executed, but with an error": {
        "failCommands": _WRITES,
        "writeConcernError": {"code": 91, "errmsg": "shutting down"},
    },
    "slow responses": {
        "failCommands": [*_WRITES, "find"],
        "blockConnection": True,
        "blockTimeMS": 1_000,
    },
}
"""Settings of the fail point `failCommand`."""
