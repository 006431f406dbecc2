"""One chaos run: start everything, apply a load and the faults, then check the result."""

import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bson import Timestamp
from pymongo import MongoClient
from pymongo.collection import Collection

from app.embedded.mongod import start_mongod
from tests.chaos.check import report
from tests.chaos.driver import Driver, Load
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Journal
from tests.chaos.reading import read_database, read_deliveries, read_journal
from tests.chaos.servers import ReplicaSet, ServiceProcess, run_receiver
from tests.support.changes import Document
from tests.support.redis_server import RedisServer

_QUIET_SECONDS = 60
_READY_SECONDS = 60
_TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")
_DATABASE = "carillon"


@dataclass(kw_only=True)
class Options:
    """Options of a chaos run. The same seed applies the same faults to the same processes."""

    seed: int = 1
    processes: int = 3
    load: Load
    replica_set: bool = False
    """Three mongods instead of one."""
    broken: str | None = None
    """The name of a broken variant, which the checker must detect."""
    calls: bool = True
    """Whether a user calls the API during the faults."""


@dataclass(kw_only=True)
class Testbed:
    """The processes and servers of a chaos run, which faults act on."""

    processes: list[ServiceProcess]
    driver: Driver
    journal: Journal
    random: random.Random
    replica_set: ReplicaSet | None
    redis: RedisServer
    uri: str

    def choose_process(self) -> ServiceProcess:
        return self.random.choice(self.processes)

    async def wait_until_ready(self, process: ServiceProcess) -> bool:
        """Wait until the process is ready. False: it ended instead. Raises TimeoutError."""
        async with asyncio.timeout(_READY_SECONDS):
            while not await self.driver.is_ready(process.url):
                if not process.is_running():
                    return False
                await asyncio.sleep(0.1)
        return True

    async def wait_until_all_ready(self) -> None:
        ready = await asyncio.gather(*map(self.wait_until_ready, self.processes))
        ended = [
            process.number
            for process, is_ready in zip(self.processes, ready, strict=True)
            if not is_ready
        ]
        assert not ended, f"these processes ended, see their logs: {ended}"

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


async def carry_out(options: Options, faults: list[FaultStep]) -> bool:
    """Carry out a chaos run and return whether every invariant holds. If not, keep the logs."""
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM must end all processes, so it cancels this task, which ends them.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="carillon-chaos-"))
    passed = False
    try:
        passed = report(await _collect_evidence(options, faults, folder))
    finally:
        _remove_data(folder, keep_logs=not passed)
    return passed


def _remove_data(folder: Path, *, keep_logs: bool) -> None:
    for data in (path for path in folder.iterdir() if path.is_dir()):
        shutil.rmtree(data, ignore_errors=True)
    if keep_logs:
        say(f"the logs are in {folder}")
    else:
        shutil.rmtree(folder)


async def _collect_evidence(options: Options, faults: list[FaultStep], folder: Path) -> Evidence:
    """Start everything, apply the faults and return the evidence."""
    async with contextlib.AsyncExitStack() as stack:
        uri, redis, members = await _start_stores(folder, options, stack)
        port = stack.enter_context(run_receiver(folder / "receiver.jsonl"))
        began = Timestamp(int(time.time()), 1)
        settings = {"MONGODB_URI": uri, "MONGODB_NAME": _DATABASE, "REDIS_URL": redis.uri}
        if options.broken is not None:
            settings["BROKEN"] = options.broken
        processes = [ServiceProcess(folder, n, settings) for n in range(options.processes)]
        stack.push_async_callback(_kill_all, processes)
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.close)
        driver = Driver(
            urls=[process.url for process in processes],
            receiver_url=f"http://127.0.0.1:{port}",
            journal=journal,
            random=random.Random(options.seed),
            load=options.load,
        )
        await stack.enter_async_context(driver)
        testbed = Testbed(
            processes=processes,
            driver=driver,
            journal=journal,
            random=random.Random(options.seed + 1),
            replica_set=members,
            redis=redis,
            uri=uri,
        )
        await _apply(testbed, faults, calls=options.calls)
        return await asyncio.to_thread(_read_evidence, folder, uri, began)


async def _start_stores(
    folder: Path, options: Options, stack: contextlib.AsyncExitStack
) -> tuple[str, RedisServer, ReplicaSet | None]:
    redis = RedisServer(folder)
    await asyncio.to_thread(redis.start)
    stack.callback(redis.kill)
    if not options.replica_set:
        start = asyncio.to_thread(start_mongod, folder / "stores", extra_args=_TEST_COMMANDS)
        return stack.enter_context(await start).uri, redis, None
    members = ReplicaSet(folder)
    stack.callback(members.stop)
    await asyncio.to_thread(members.start)
    return members.uri, redis, members


async def _apply(testbed: Testbed, faults: list[FaultStep], *, calls: bool) -> None:
    """Apply the load and one fault after the other, then pause all jobs."""
    say("starting")
    for process in testbed.processes:
        process.start()
    await testbed.wait_until_all_ready()
    await testbed.driver.sign_in()
    await testbed.driver.create_jobs()
    async with _call_api(testbed.driver, on=calls):
        for fault in faults:
            await fault(testbed)
    say("pausing")
    for process in testbed.processes:
        if not process.is_running():
            process.start()
    await testbed.wait_until_all_ready()
    await testbed.driver.pause_all()


@contextlib.asynccontextmanager
async def _call_api(driver: Driver, *, on: bool) -> AsyncIterator[None]:
    task = asyncio.create_task(driver.call_api_until_cancelled()) if on else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended


def _read_evidence(folder: Path, uri: str, began: Timestamp) -> Evidence:
    """Wait until no execution is queued or running, then read everything."""
    evidence = Evidence()
    client: MongoClient[Document]
    with MongoClient(uri, tz_aware=True, timeoutMS=60_000) as client:
        executions: Collection[Document] = client[_DATABASE]["executions"]
        ends_at = time.monotonic() + _QUIET_SECONDS
        while time.monotonic() < ends_at:
            if not executions.count_documents({"status": {"$in": ["queued", "running"]}}):
                break
            time.sleep(0.5)
        read_database(client, _DATABASE, evidence, since=began)
    read_journal(folder / "journal.jsonl", evidence)
    read_deliveries(folder / "receiver.jsonl", evidence)
    return evidence


async def _kill_all(processes: list[ServiceProcess]) -> None:
    """Kill all processes, frozen ones too."""
    for process in processes:
        if process.is_running():
            process.send_signal(signal.SIGKILL)
            await process.wait()


def say(line: str) -> None:
    sys.stdout.write(f"[{time.strftime('%X')}] {line}\n")
    sys.stdout.flush()
