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
from tests.chaos.evidence import Evidence, read_database, read_deliveries, read_journal
from tests.chaos.journal import Journal
from tests.chaos.servers import Node, ReplicaSet, running_receiver
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
    """The name of a broken variant, which the checker must catch."""
    disturb: bool = True


@dataclass(kw_only=True)
class Run:
    """A chaos run: the processes and servers that faults act on."""

    nodes: list[Node]
    driver: Driver
    journal: Journal
    random: random.Random
    replica_set: ReplicaSet | None
    redis: RedisServer
    uri: str

    def pick(self) -> Node:
        return self.random.choice(self.nodes)

    async def is_ready(self, node: Node) -> bool:
        """Wait until the process is ready. False if it ended instead. Raises TimeoutError."""
        async with asyncio.timeout(_READY_SECONDS):
            while not await self.driver.is_ready(node.url):
                if not node.is_running():
                    return False
                await asyncio.sleep(0.1)
        return True

    async def all_ready(self) -> None:
        ready = await asyncio.gather(*map(self.is_ready, self.nodes))
        ended = [
            node.number for node, is_ready in zip(self.nodes, ready, strict=True) if not is_ready
        ]
        assert not ended, f"these processes ended, see their logs: {ended}"

    def members(self) -> ReplicaSet:
        assert self.replica_set is not None
        return self.replica_set

    def fail_commands(self, data: Document, *, probability: float) -> None:
        """Make commands of the service fail with this probability; 0 ends it."""
        mode = {"activationProbability": probability} if probability else "off"
        client: MongoClient[Document]
        with MongoClient(self.uri, timeoutMS=10_000) as client:
            client.admin.command(
                "configureFailPoint", "failCommand", mode=mode, data=data | {"appName": "carillon"}
            )


FaultStep = Callable[[Run], Awaitable[None]]


async def run(options: Options, faults: list[FaultStep]) -> bool:
    """Carry out a chaos run and return whether every invariant holds. If not, keep the logs."""
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM must end all processes, so it cancels this task, which ends them.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="carillon-chaos-"))
    passed = False
    try:
        passed = report(await _carry_out(options, faults, folder))
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


async def _carry_out(options: Options, faults: list[FaultStep], folder: Path) -> Evidence:
    """Carry out the chaos run and return its evidence."""
    async with contextlib.AsyncExitStack() as stack:
        uri, redis, members = await _start_stores(folder, options, stack)
        port = stack.enter_context(running_receiver(folder / "receiver.jsonl"))
        began = Timestamp(int(time.time()), 1)
        settings = {"MONGODB_URI": uri, "MONGODB_NAME": _DATABASE, "REDIS_URL": redis.uri}
        if options.broken is not None:
            settings["BROKEN"] = options.broken
        nodes = [Node(folder, n, settings) for n in range(options.processes)]
        stack.push_async_callback(_kill_all, nodes)
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.close)
        driver = Driver(
            urls=[node.url for node in nodes],
            receiver_url=f"http://127.0.0.1:{port}",
            journal=journal,
            random=random.Random(options.seed),
            load=options.load,
        )
        await stack.enter_async_context(driver)
        run = Run(
            nodes=nodes,
            driver=driver,
            journal=journal,
            random=random.Random(options.seed + 1),
            replica_set=members,
            redis=redis,
            uri=uri,
        )
        await _apply(run, faults, disturb=options.disturb)
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


async def _apply(run: Run, faults: list[FaultStep], *, disturb: bool) -> None:
    """Apply the load and one fault after the other, then pause all jobs."""
    say("starting")
    for node in run.nodes:
        node.start()
    await run.all_ready()
    await run.driver.sign_in()
    await run.driver.create_jobs()
    async with _disturb(run.driver, on=disturb):
        for fault in faults:
            await fault(run)
    say("pausing")
    for node in run.nodes:
        if not node.is_running():
            node.start()
    await run.all_ready()
    await run.driver.pause_all()


@contextlib.asynccontextmanager
async def _disturb(driver: Driver, *, on: bool) -> AsyncIterator[None]:
    task = asyncio.create_task(driver.disturb()) if on else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended


def _read_evidence(folder: Path, uri: str, began: Timestamp) -> Evidence:
    """Wait until no execution is live, then read everything."""
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


async def _kill_all(nodes: list[Node]) -> None:
    """Kill all processes, frozen ones too."""
    for node in nodes:
        if node.is_running():
            node.send(signal.SIGKILL)
            await node.wait()


def say(line: str) -> None:
    sys.stdout.write(f"[{time.strftime('%X')}] {line}\n")
    sys.stdout.flush()
