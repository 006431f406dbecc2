"""The processes and servers of a chaos run, which faults act on."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from pymongo import MongoClient

from tests.chaos.driver import Driver
from tests.chaos.journal import Journal
from tests.chaos.servers import ReplicaSet, ServiceProcess
from tests.support.changes import Document
from tests.support.redis_server import RedisServer

_READY_SECONDS = 120


@dataclass(kw_only=True)
class Testbed:
    """Everything that runs during a chaos run."""

    __test__ = False  # the name looks like a test class to pytest

    processes: list[ServiceProcess]
    driver: Driver
    journal: Journal
    random: Random
    replica_set: ReplicaSet | None
    redis: RedisServer
    uri: str
    _watches: set[asyncio.Task[None]] = field(default_factory=set)

    def choose_process(self) -> ServiceProcess:
        return self.random.choice(self.processes)

    async def kill(self, process: ServiceProcess) -> int:
        """Kill -9 the process. Returns the number of the fault, for `start`."""
        number = self.journal.record_fault("kill", process.pid)
        await process.kill()
        return number

    def start(self, process: ServiceProcess, fault: int, **settings: str) -> None:
        """Start the process. The fault with this number ends when it is ready."""
        process.start(**settings)
        self.end_when_ready(process, fault)

    def end_when_ready(self, process: ServiceProcess, fault: int) -> None:
        """Record the end of a fault when the process is ready, has ended, or was replaced."""
        pid = process.pid

        async def watch() -> None:
            ends_at = time.monotonic() + _READY_SECONDS
            while process.is_running() and process.pid == pid and time.monotonic() < ends_at:
                if await self.driver.client.is_ready(process.url):
                    break
                await asyncio.sleep(0.2)
            self.journal.record_end(fault)

        task = asyncio.create_task(watch())
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def wait_until_ready(self, process: ServiceProcess) -> bool:
        """Wait until the process is ready. False: it ended instead. Raises TimeoutError."""
        async with asyncio.timeout(_READY_SECONDS):
            while not await self.driver.client.is_ready(process.url):
                if not process.is_running():
                    return False
                await asyncio.sleep(0.1)
        return True

    async def wait_until_all_ready(self) -> None:
        """Wait until all processes are ready and the ends of their faults are recorded."""
        ready = await asyncio.gather(*map(self.wait_until_ready, self.processes))
        ended = [
            process.number
            for process, is_ready in zip(self.processes, ready, strict=True)
            if not is_ready
        ]
        assert not ended, f"these processes ended, see their logs: {ended}"
        await asyncio.gather(*self._watches)

    async def cancel_watches(self) -> None:
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    def get_replica_set(self) -> ReplicaSet:
        assert self.replica_set is not None
        return self.replica_set

    def fail_commands(self, data: Document, *, probability: float) -> None:
        """Make commands of the service fail with this probability. 0: none fails."""
        mode = {"activationProbability": probability} if probability else "off"
        client: MongoClient[Document]
        with MongoClient(self.uri, timeoutMS=10_000) as client:
            client.admin.command(
                "configureFailPoint", "failCommand", mode=mode, data=data | {"appName": "carillon"}
            )


FaultStep = Callable[[Testbed], Awaitable[None]]


def say(line: str) -> None:
    sys.stdout.write(f"[{time.strftime('%X')}] {line}\n")
    sys.stdout.flush()
