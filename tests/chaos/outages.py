"""Faults of the databases. Each is bounded in count and time and leaves the databases running."""

import asyncio
import signal
import time

from pymongo.errors import PyMongoError

from tests.chaos.evidence import Part
from tests.chaos.testbed import FaultStep, Testbed, say

_WRITES = ["insert", "update", "findAndModify", "delete"]
BAD_RESPONSES: dict[str, dict[str, object]] = {
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


def step_down_primary(times: int) -> FaultStep:
    """Make the primary step down every 10 s."""

    async def apply(testbed: Testbed) -> None:
        for _ in range(times):
            began = time.monotonic()
            with testbed.journal.record_span("step-down", part=Part.DATABASE):
                try:
                    await asyncio.to_thread(testbed.get_replica_set().step_down)
                except PyMongoError as error:
                    say(f"step-down: {error}")
                port = await asyncio.to_thread(testbed.get_replica_set().wait_for_primary)
            say(f"step-down: {port} is primary after {time.monotonic() - began:.1f} s")
            await asyncio.sleep(max(0.0, began + 10 - time.monotonic()))

    return apply


def kill_primary(times: int) -> FaultStep:
    """kill -9 the primary; start it again after the election of another one."""

    async def apply(testbed: Testbed) -> None:
        members = testbed.get_replica_set()
        for _ in range(times):
            port = await asyncio.to_thread(members.wait_for_primary)
            began = time.monotonic()
            with testbed.journal.record_span("primary killed", part=Part.DATABASE):
                await asyncio.to_thread(members.kill_member, port)
                await asyncio.to_thread(members.wait_for_primary)
            say(f"primary killed: another one after {time.monotonic() - began:.1f} s")
            testbed.journal.record_fault("new primary", part=Part.DATABASE)
            members.start_member(port)
            await asyncio.sleep(10)

    return apply


def delay_majority(times: int) -> FaultStep:
    """Stop the replication for 3 s, then kill the primary.

    The writes that only the primary had are rolled back when it starts again.
    """

    async def apply(testbed: Testbed) -> None:
        members = testbed.get_replica_set()
        for _ in range(times):
            port = await asyncio.to_thread(members.wait_for_primary)
            with testbed.journal.record_span("lagging majority", part=Part.DATABASE):
                await asyncio.to_thread(members.switch_replication, port, on=False)
                await asyncio.sleep(3)
                testbed.journal.record_fault("primary killed", part=Part.DATABASE)
                await asyncio.to_thread(members.kill_member, port)
                await asyncio.to_thread(members.switch_replication, port, on=True)
                began = time.monotonic()
                await asyncio.to_thread(members.wait_for_primary)
            say(f"lagging majority: another primary after {time.monotonic() - began:.1f} s")
            testbed.journal.record_fault("new primary", part=Part.DATABASE)
            members.start_member(port)
            await asyncio.sleep(10)

    return apply


def slow_replication(times: int) -> FaultStep:
    """Stop the replication for 8 to 12 s. A write is not acknowledged before it goes on."""

    async def apply(testbed: Testbed) -> None:
        members = testbed.get_replica_set()
        for _ in range(times):
            seconds = testbed.random.uniform(8, 12)
            say(f"no replication for {seconds:.1f} s")
            port = await asyncio.to_thread(members.wait_for_primary)
            with testbed.journal.record_span("slow replication", part=Part.DATABASE):
                await asyncio.to_thread(members.switch_replication, port, on=False)
                try:
                    await asyncio.sleep(seconds)
                finally:
                    await asyncio.to_thread(members.switch_replication, port, on=True)
            await asyncio.sleep(10)

    return apply


def freeze_primary(times: int) -> FaultStep:
    """SIGSTOP the primary until 5 s after the election of another one."""

    async def apply(testbed: Testbed) -> None:
        members = testbed.get_replica_set()
        for _ in range(times):
            port = await asyncio.to_thread(members.wait_for_primary)
            began = time.monotonic()
            frozen = testbed.journal.record_fault("primary frozen", part=Part.DATABASE)
            members.send_signal(port, signal.SIGSTOP)
            try:
                other = await asyncio.to_thread(members.wait_for_primary, other_than=port)
                testbed.journal.record_end(frozen)
                say(f"primary frozen: {other} instead after {time.monotonic() - began:.1f} s")
                testbed.journal.record_fault("new primary", part=Part.DATABASE)
                await asyncio.sleep(5)
            finally:
                members.send_signal(port, signal.SIGCONT)
            await asyncio.sleep(10)

    return apply


def spoil_responses(times: int) -> FaultStep:
    """Make one in ten commands of the service fail, in each way for 5 s."""

    async def apply(testbed: Testbed) -> None:
        for name, data in [*BAD_RESPONSES.items()] * times:
            say(name)
            with testbed.journal.record_span(name, part=Part.DATABASE):
                await asyncio.to_thread(testbed.fail_commands, data, probability=0.1)
                await asyncio.sleep(5)
                await asyncio.to_thread(testbed.fail_commands, data, probability=0)

    return apply


def disturb_redis(times: int) -> FaultStep:
    """Kill Redis and start it empty; then freeze it, flush it repeatedly, and fill it."""

    async def apply(testbed: Testbed) -> None:
        server = testbed.redis
        for _ in range(times):
            say("Redis killed")
            with testbed.journal.record_span("redis killed", part=Part.REDIS):
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(5)
                await asyncio.to_thread(server.start)
            await asyncio.sleep(2)
            say("Redis frozen")
            with testbed.journal.record_span("redis frozen", part=Part.REDIS):
                server.send_signal(signal.SIGSTOP)
                await asyncio.sleep(10)
                server.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)
            say("Redis flushed")
            with testbed.journal.record_span("redis flushed", part=Part.REDIS):
                for _ in range(50):
                    await asyncio.to_thread(server.send_command, "FLUSHALL")
                    await asyncio.sleep(0.1)
            say("Redis full")
            with testbed.journal.record_span("redis full", part=Part.REDIS):
                await asyncio.to_thread(server.send_command, "CONFIG", "SET", "maxmemory", "1")
                await asyncio.sleep(5)
                await asyncio.to_thread(server.send_command, "CONFIG", "SET", "maxmemory", "0")
            await asyncio.sleep(2)

    return apply
