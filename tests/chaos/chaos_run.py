"""One chaos run: start everything, apply a load and the faults, then check the result."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bson import Timestamp
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.chaos.check import report
from tests.chaos.client import Client
from tests.chaos.driver import USED_VERBS, Driver
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Journal
from tests.chaos.reading import read_database, read_deliveries, read_journal
from tests.chaos.servers import ReplicaSet, ServiceProcess, run_receiver, run_silent_dns
from tests.chaos.testbed import FaultStep, Testbed, say
from tests.chaos.workload import Workload
from tests.support.changes import Document
from tests.support.open_servers import start_open_mongod
from tests.support.redis_server import RedisServer
from tests.support.service import USERNAME

_STUCK_SECONDS = 60
"""The run waits for open executions as long as one of them ends in this time."""
_CALM_SECONDS = 5
"""The time before the first fault, so that the bounds without faults are judged in each run."""
_OPLOG_MB = 8_192.0
_TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")
_DATABASE = "carillon"
_HOSTILE_USERNAME = "hostile"


@dataclass(kw_only=True)
class Options:
    """Options of a chaos run. The same seed applies the same faults to the same processes."""

    seed: int = 1
    processes: int = 3
    load: Workload
    replica_set: bool = False
    """Three mongods instead of one."""
    broken: str | None = None
    """The name of a broken variant, which the checker must detect."""
    users: bool = True
    """Whether users call the API during the faults, and pause all jobs at the end."""
    herds: int = 0
    """How many jobs the faults create."""
    expected_faults: Mapping[str, int] = field(default_factory=dict)
    """The least number of faults by name that must be in the journal."""


async def carry_out(options: Options, faults: list[FaultStep]) -> frozenset[str]:
    """Carry out a chaos run and return the names of the violated invariants. If any is, keep the
    logs."""
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM must end all processes, so it cancels this task, which ends them.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="carillon-chaos-"))
    keep_logs = True
    try:
        violated = report(await _collect_evidence(options, faults, folder))
        keep_logs = bool(violated)
    finally:
        _remove_data(folder, keep_logs=keep_logs)
    return violated


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
        if options.load.silent_names:
            settings["DNS_SERVERS"] = f"127.0.0.1:{stack.enter_context(run_silent_dns())}"
        if options.broken is not None:
            settings["BROKEN"] = options.broken
        processes = [ServiceProcess(folder, n, settings) for n in range(options.processes)]
        stack.push_async_callback(_kill_all, processes)
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.close)
        random = Random(options.seed)
        client, hostile_client = [
            await stack.enter_async_context(
                Client(processes=processes, journal=journal, random=random, username=name)
            )
            for name in (USERNAME, _HOSTILE_USERNAME)
        ]
        testbed = Testbed(
            processes=processes,
            driver=Driver(client, hostile_client, f"http://127.0.0.1:{port}", random, options.load),
            journal=journal,
            random=Random(options.seed + 1),
            replica_set=members,
            redis=redis,
            uri=uri,
        )
        stack.push_async_callback(testbed.cancel_watches)
        await _apply(testbed, faults, options)
        return await asyncio.to_thread(_read_evidence, folder, uri, began)


async def _start_stores(
    folder: Path, options: Options, stack: contextlib.AsyncExitStack
) -> tuple[str, RedisServer, ReplicaSet | None]:
    redis = RedisServer(folder)
    await asyncio.to_thread(redis.start)
    stack.callback(redis.kill)
    if not options.replica_set:
        start = asyncio.to_thread(start_open_mongod, folder / "stores", extra_args=_TEST_COMMANDS)
        uri = stack.enter_context(await start).uri
        await asyncio.to_thread(_enlarge_oplog, uri)
        return uri, redis, None
    members = ReplicaSet(folder)
    stack.callback(members.stop)
    await asyncio.to_thread(members.start)
    return members.uri, redis, members


def _enlarge_oplog(uri: str) -> None:
    """Let the oplog keep every write of a long run."""
    client: MongoClient[Document]
    with MongoClient(uri, timeoutMS=10_000) as client:
        client.admin.command("replSetResizeOplog", 1, size=_OPLOG_MB)


async def _apply(testbed: Testbed, faults: list[FaultStep], options: Options) -> None:
    """Apply the load and one fault after the other, then pause all jobs."""
    say("starting")
    for process in testbed.processes:
        process.start()
    await testbed.wait_until_all_ready()
    await asyncio.to_thread(testbed.processes[0].add_user, _HOSTILE_USERNAME)
    await testbed.driver.create_jobs()
    _record_load(testbed, options)
    async with _use(testbed.driver, on=options.users):
        await asyncio.sleep(_CALM_SECONDS)
        for fault in faults:
            await fault(testbed)
        if options.users:
            await testbed.driver.wait_for_all_verbs()
    testbed.journal.write("load", ended_at=time.time())
    say("pausing")
    for process in testbed.processes:
        if not process.is_running():
            process.start()
    await testbed.wait_until_all_ready()
    if options.users:
        await testbed.driver.pause_all()


def _record_load(testbed: Testbed, options: Options) -> None:
    """Write down what the run must produce at least."""
    testbed.journal.write(
        "load",
        jobs=options.load.first_jobs + options.herds,
        processes=options.processes,
        slots_per_second=options.load.slots_per_second,
        behaviours=options.load.behaviours,
        faults=options.expected_faults,
        calls=sorted(USED_VERBS) if options.users else ["create"],
        began_at=time.time(),
    )


@contextlib.asynccontextmanager
async def _use(driver: Driver, *, on: bool) -> AsyncIterator[None]:
    task = asyncio.create_task(driver.use_until_cancelled()) if on else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended


def _read_evidence(folder: Path, uri: str, began: Timestamp) -> Evidence:
    """Wait until no execution is queued or running, or all of these are stuck, then read
    everything."""
    evidence = Evidence()
    client: MongoClient[Document]
    with MongoClient(uri, tz_aware=True, timeoutMS=60_000) as client:
        executions: Collection[Document] = client[_DATABASE]["executions"]
        fewest, ends_at = None, time.monotonic() + _STUCK_SECONDS
        while open_ := executions.count_documents({"status": {"$in": ["queued", "running"]}}):
            if fewest is None or open_ < fewest:
                fewest, ends_at = open_, time.monotonic() + _STUCK_SECONDS
            if time.monotonic() > ends_at:
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
