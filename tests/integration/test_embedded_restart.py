"""The embedded servers are started again when they die while the service uses them."""

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.clock import SystemClock
from app.embedded.loopback import HOST, find_free_port
from app.embedded.mongod import start_mongod
from app.embedded.redis_server import start_redis
from app.embedded.shared_server import SharedServer, start
from app.embedded.stores import open_stores
from app.errors import ConfigurationError
from app.repositories.heartbeat import HeartbeatRepository
from app.repositories.mongo import Database, open_client
from app.settings import load_settings
from tests.support.ports import occupy_port
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.slow  # each test starts servers of its own
START_SECONDS = 60


def read_pid(data_dir: Path, server: str) -> int:
    """The recorded process id; 0 while the server is being started."""
    return int(json.loads((data_dir / f"{server}.json").read_text()).get("pid", 0))


def kill(server: SharedServer) -> None:
    """Kill a server and wait until the kernel has closed its files and ports."""
    pid = json.loads(server._files.path("json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server._files.is_alive())
    wait_until(lambda: not server.port or find_free_port(server.port) == server.port)


def start_sleeper(folder: Path, *, ready: threading.Event) -> SharedServer:
    """Start a server that is ready while `ready` is set."""
    return start(folder / "sleeper", lambda _: _Sleeper(ready))


@dataclass(frozen=True)
class _Sleeper:
    ready: threading.Event

    def choose_port(self, previous: int) -> int:
        return 0

    def build_command(self, port: int) -> list[str]:
        return ["/bin/sleep", "1000"]

    def build_uri(self, port: int) -> str:
        return "sleeper:"

    def describe_address(self, port: int) -> str:
        return "sleeper:"

    def make_ready(self, port: int) -> int | None:
        return 1 if self.ready.is_set() else None


async def test_a_mongod_that_dies_is_started_again_for_the_clients_that_are_connected(
    tmp_path: Path, redis_url: str
) -> None:
    settings = load_settings(env_file=None, data_dir=tmp_path, redis_url=redis_url)
    async with open_stores(settings) as stores:
        client = open_client(stores.mongodb_uri, timeout=timedelta(seconds=8))
        database = Database(client, "test", clock=SystemClock())
        notes = database.collection("notes")
        await notes.insert_one({"_id": "kept"})
        killed = read_pid(tmp_path, "mongodb")
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: read_pid(tmp_path, "mongodb") not in (0, killed), START_SECONDS)
        await eventually(lambda: _can_insert(notes), START_SECONDS, every=0.1)
        assert [note["_id"] async for note in notes.find().sort("_id")] == ["again", "kept"]
        await database.close()
    assert not psutil.pid_exists(read_pid(tmp_path, "mongodb"))


async def _can_insert(notes: Any) -> bool:
    await notes.update_one({"_id": "again"}, {"$set": {"written": True}}, upsert=True)
    return True


async def test_a_redis_that_dies_is_started_again(tmp_path: Path, mongo_uri: str) -> None:
    settings = load_settings(env_file=None, data_dir=tmp_path, mongodb_uri=mongo_uri)
    async with open_stores(settings) as stores:
        await stores.redis.ping()
        killed = read_pid(tmp_path, "redis")
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: read_pid(tmp_path, "redis") not in (0, killed), START_SECONDS)
        await eventually(lambda: _responds(stores.redis), START_SECONDS, every=0.1)


async def _responds(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except RedisError:
        return False


def test_one_of_several_processes_starts_the_server_again(tmp_path: Path) -> None:
    servers = [start_redis(tmp_path) for _ in range(5)]
    kill(servers[0])
    with ThreadPoolExecutor(len(servers)) as threads:
        restarted = list(threads.map(SharedServer.restart_if_dead, servers))
    assert sorted(restarted) == [False] * 4 + [True]
    assert [server.restart_if_dead() for server in servers] == [False] * 5
    assert [server.stop() for server in servers] == [False] * 4 + [True]
    assert not psutil.pid_exists(read_pid(tmp_path, "redis"))


def test_a_server_that_nobody_uses_is_not_started_again(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    stopped = server.pid
    server.stop()
    assert server.restart_if_dead() is False
    assert read_pid(tmp_path, "redis") == stopped


def test_a_mongod_whose_port_was_taken_is_started_again_when_the_port_is_free(
    tmp_path: Path,
) -> None:
    with start_mongod(tmp_path) as server:
        kill(server)
        with (
            occupy_port(server.port),
            pytest.raises(ConfigurationError, match=f"has taken mongodb://{HOST}:{server.port}"),
        ):
            server.restart_if_dead()
        assert server.restart_if_dead() is True
        with MongoClient[dict[str, Any]](server.uri, timeoutMS=5000) as client:
            assert client.admin.command("ping")["ok"]


def test_a_stop_ends_the_wait_for_a_server_that_is_started_again(tmp_path: Path) -> None:
    ready = threading.Event()
    ready.set()
    server = start_sleeper(tmp_path, ready=ready)
    first = read_pid(tmp_path, "sleeper")
    kill(server)
    ready.clear()
    with ThreadPoolExecutor(1) as threads:
        restarting = threads.submit(server.restart_if_dead)
        wait_until(lambda: read_pid(tmp_path, "sleeper") not in (0, first))
        assert server.stop() is True
        assert restarting.result() is False
    assert not psutil.pid_exists(read_pid(tmp_path, "sleeper"))


def test_clients_of_a_database_that_is_gone_are_closed_without_a_long_wait(
    tmp_path: Path,
) -> None:
    """The driver tells the database that the client's sessions end, for up to 30 s."""
    limit = timedelta(seconds=8)
    with start_mongod(tmp_path) as server:
        database = Database(open_client(server.uri, timeout=limit), "test", clock=SystemClock())
        heartbeat = HeartbeatRepository(server.uri, "test", clock=SystemClock(), timeout=limit)
        asyncio.run(database.ping())
        heartbeat._executions.find_one({})
        kill(server)

        def close() -> None:
            heartbeat.close()
            asyncio.run(database.close())

        closing = threading.Thread(target=close, daemon=True)
        closing.start()
        wait_until(lambda: not closing.is_alive(), 15)
