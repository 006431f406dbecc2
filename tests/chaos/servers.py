"""The programs of a chaos run: the databases, the receiver and the processes of the service."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.embedded.mongod import prepare_mongod
from tests.chaos.limits import LEASE_SECONDS
from tests.support.changes import Document
from tests.support.service import ROOT, add_user, free_port, make_environment

_SET = "chaos"
_TIMEOUT_SECONDS = 60
_MONGOD_OPTIONS = (
    "--bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --oplogSize 256 --quiet"
    f" --replSet {_SET} --setParameter enableTestCommands=1"
    " --setParameter diagnosticDataCollectionEnabled=false"
).split()


class ServiceProcess:
    """One process of the service, which may have ended."""

    def __init__(self, folder: Path, number: int, settings: Mapping[str, str]) -> None:
        self.number = number
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"service-{number}.log"
        self._environment = make_environment(self.port, folder / "data") | {
            "SECRET_KEY": "0123456789abcdef" * 4,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self, **settings: str) -> None:
        """Start the process without waiting until it is ready."""
        assert not self.is_running()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.process", "all"],
                cwd=ROOT,
                env=self._environment | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def add_user(self, name: str) -> None:
        """Add a user to the database of this process."""
        add_user(name, self._environment)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, seconds: float = _TIMEOUT_SECONDS) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, seconds)

    async def kill(self) -> None:
        if self.is_running():
            self.send_signal(signal.SIGKILL)
            await self.wait()


class ReplicaSet:
    """Three mongods on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = [free_port() for _ in range(3)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.uri = f"mongodb://{hosts}/?replicaSet={_SET}"

    def start(self) -> None:
        """Start all members and wait for a primary and two secondaries."""
        for port in self.ports:
            self.start_member(port)
        members = [{"_id": i, "host": f"127.0.0.1:{port}"} for i, port in enumerate(self.ports)]
        self._initiate({"_id": _SET, "members": members})
        self._wait_for_secondaries()

    def _initiate(self, config: Document) -> None:
        ends_at = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                with self.connect(self.ports[0]) as client:
                    client.admin.command("replSetInitiate", config)
            except PyMongoError:
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.2)
            else:
                return

    def _wait_for_secondaries(self) -> None:
        ends_at = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < ends_at:
            with self.connect(self.wait_for_primary()) as client:
                members = client.admin.command("replSetGetStatus")["members"]
            if sorted(m["stateStr"] for m in members) == ["PRIMARY", "SECONDARY", "SECONDARY"]:
                return
            time.sleep(0.2)
        raise TimeoutError("The secondaries are not ready.")

    def start_member(self, port: int) -> None:
        folder = self._folder / f"mongod-{port}"
        folder.mkdir(parents=True, exist_ok=True)
        executable = prepare_mongod()
        assert executable is not None, "There is no mongod. `make run` prints how to get one."
        with (self._folder / f"mongod-{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen(
                [str(executable), "--dbpath", str(folder), "--port", str(port), *_MONGOD_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def connect(self, port: int, *, seconds: float = 10) -> MongoClient[Document]:
        limit = int(seconds * 1000)
        return MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=limit)

    def find_primary(self, *, other_than: int | None = None) -> int | None:
        for port in self.ports:
            if port == other_than:
                continue
            try:
                with self.connect(port, seconds=0.5) as client:  # it may have ended or be frozen
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return port
            except PyMongoError:
                continue
        return None

    def wait_for_primary(self, *, other_than: int | None = None) -> int:
        """Return the primary's port. Wait until there is a primary (other than `other_than`)."""
        ends_at = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < ends_at:
            port = self.find_primary(other_than=other_than)
            if port is not None:
                return port
            time.sleep(0.1)
        raise TimeoutError("The replica set has no primary.")

    def step_down(self) -> None:
        """Make the primary step down; it cannot be elected again for 5 s."""
        with self.connect(self.wait_for_primary()) as client:
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)

    def switch_replication(self, primary: int, *, on: bool) -> None:
        """Switch replication from the primary on or off, by a fail point of the secondaries."""
        mode = "off" if on else "alwaysOn"
        for port in self.ports:
            if port != primary:
                with self.connect(port) as client:
                    client.admin.command("configureFailPoint", "stopReplProducer", mode=mode)

    def send_signal(self, port: int, number: signal.Signals) -> None:
        self._processes[port].send_signal(number)

    def kill_member(self, port: int) -> None:
        self._processes[port].kill()
        self._processes[port].wait(_TIMEOUT_SECONDS)

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(_TIMEOUT_SECONDS)


@contextmanager
def run_silent_dns() -> Iterator[int]:
    """Open a UDP port that never responds, and yield it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        yield port


@contextmanager
def run_receiver(log: Path) -> Iterator[int]:
    """Start a receiver and yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.receiver", str(log)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(_TIMEOUT_SECONDS)
        assert process.stdout is not None
        process.stdout.close()
