"""Other users of the machine can neither read nor write what the embedded servers hold."""

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from structlog.testing import capture_logs

from app.embedded.mongod import start_mongod
from app.embedded.mongod_access import MongodAccess
from app.embedded.redis_server import start_redis
from app.embedded.shared_server import SharedServer
from app.embedded.socket_folder import MAX_PATH_BYTES, choose_socket
from app.embedded.stores import open_stores
from app.errors import ConfigurationError
from app.settings import load_settings
from tests.support.open_servers import start_open_mongod

pytestmark = pytest.mark.slow  # each test starts servers of its own
Client = MongoClient[dict[str, Any]]

UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose path is short, unlike that of `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def connect(port: int, **options: Any) -> Client:
    return MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=5000, **options)


def store_note(server: SharedServer) -> None:
    client: Client = MongoClient(server.uri, timeoutMS=5000)
    with client:
        client["test"]["notes"].insert_one({"text": "kept"})


def count_notes(server: SharedServer) -> int:
    client: Client
    with MongoClient(server.uri, timeoutMS=5000) as client:
        return client["test"]["notes"].count_documents({})


def list_accounts(data_dir: Path, server: SharedServer) -> list[str]:
    with MongodAccess.load(data_dir / "mongodb").open_as_system(server.port) as system:
        accounts = system.admin.command("usersInfo", {"forAllDBs": True})["users"]
    return [account["_id"] for account in accounts]


def mark_as_earlier_release(data_dir: Path) -> None:
    """Make the record of the server what an earlier release wrote."""
    path = data_dir / "mongodb.json"
    record = json.loads(path.read_text())
    del record["protected"]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "attack",
    [
        lambda client: client["carillon"]["users"].find_one(),
        lambda client: client["carillon"]["users"].insert_one({"username": "evil"}),
        # mongod allows this to local clients without a password, unless that is switched off.
        lambda client: client.admin.command("createUser", "evil", pwd="evil", roles=["root"]),
        lambda client: client.admin.command("shutdown"),
    ],
    ids=["read", "write", "create the first account", "shut down"],
)
def test_mongod_rejects_what_a_client_without_a_password_wants(
    tmp_path: Path, attack: Callable[[Client], object]
) -> None:
    with start_mongod(tmp_path) as server, connect(server.port) as client:
        with pytest.raises(OperationFailure) as caught:
            attack(client)
        assert caught.value.code == UNAUTHORIZED


def test_mongod_decompresses_nothing(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server, connect(server.port) as client:
        hello = client.admin.command("hello", compression=["zlib", "snappy", "zstd"])
    assert "compression" not in hello


def test_the_account_of_the_service_cannot_administer_mongod(tmp_path: Path) -> None:
    client: Client
    with start_mongod(tmp_path) as server, MongoClient(server.uri) as client:
        for command in ("usersInfo", "shutdown", "getCmdLineOpts"):
            with pytest.raises(OperationFailure) as caught:
                client.admin.command(command, 1)
            assert caught.value.code == UNAUTHORIZED


def test_redis_listens_only_on_a_socket_of_the_user_and_requires_the_password(
    tmp_path: Path,
) -> None:
    with start_redis(tmp_path) as server:
        assert psutil.Process(server.pid).net_connections("inet") == []
        socket = Path(server.address.removeprefix("unix://"))
        assert socket.stat().st_mode & 0o777 == 0o700
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        with (
            redis.Redis(unix_socket_path=str(socket)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.get("page")
        with redis.Redis.from_url(server.uri) as client:
            assert client.ping()


async def test_no_password_is_in_a_log_an_argument_or_a_file_that_others_can_read(
    tmp_path: Path,
) -> None:
    settings = load_settings(env_file=None, data_dir=tmp_path)
    with capture_logs() as logged:
        async with open_stores(settings) as stores:
            assert await stores.redis.set("key", "value")
            processes = [
                psutil.Process(json.loads((tmp_path / name).read_text())["pid"])
                for name in ("mongodb.json", "redis.json")
            ]
            arguments = " ".join(part for one in processes for part in one.cmdline())
    names = ("mongodb.key", "mongodb.password", "redis.conf")
    secrets = [(tmp_path / name).read_text().split()[-1] for name in names]
    assert len({len(secret) for secret in secrets} | {64}) == 1
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o600}
    output = "".join((tmp_path / name).read_text() for name in ("mongodb.log", "redis.log"))
    for secret in secrets:
        assert secret not in f"{logged} {arguments} {output} {stores!r}"
    assert [line["event"] for line in logged].count("embedded_server_ready") == 2


def test_data_of_an_earlier_release_are_taken_over_without_the_accounts_in_it(
    tmp_path: Path,
) -> None:
    with start_open_mongod(tmp_path) as earlier:
        store_note(earlier)
        with connect(earlier.port) as client:  # by anybody on the machine
            for name in ("evil", "carillon"):
                client.admin.command("createUser", name, pwd="evil", roles=["root"])
    mark_as_earlier_release(tmp_path)
    with start_mongod(tmp_path) as server:
        assert count_notes(server) == 1
        assert list_accounts(tmp_path, server) == ["admin.carillon"]
        for name in ("evil", "carillon"):
            with (
                connect(server.port, username=name, password="evil") as client,
                pytest.raises(OperationFailure) as caught,
            ):
                client.list_database_names()
            assert caught.value.code == AUTHENTICATION_FAILED


def test_a_server_that_an_earlier_release_left_running_is_replaced(tmp_path: Path) -> None:
    earlier = start_open_mongod(tmp_path)
    store_note(earlier)
    assert earlier._client_lock is not None
    os.close(earlier._client_lock)  # as if the process was killed
    earlier._client_lock = None
    mark_as_earlier_release(tmp_path)
    with start_mongod(tmp_path) as server:
        assert server.pid != earlier.pid
        assert earlier._process is not None
        assert earlier._process.poll() is not None
        assert count_notes(server) == 1


def test_a_process_of_an_earlier_release_must_be_stopped_first(tmp_path: Path) -> None:
    with start_open_mongod(tmp_path) as earlier:
        mark_as_earlier_release(tmp_path)
        with pytest.raises(ConfigurationError, match=r"earlier release.*Stop it"):
            start_mongod(tmp_path)
        assert count_notes(earlier) == 0  # it still runs


@pytest.mark.parametrize("missing", ["mongodb.key", "mongodb.password"])
def test_a_start_that_was_killed_before_a_secret_was_stored_is_completed(
    tmp_path: Path, missing: str
) -> None:
    MongodAccess.load(tmp_path / "mongodb")
    (tmp_path / missing).unlink()
    with start_mongod(tmp_path) as server:
        store_note(server)


@pytest.mark.parametrize("mongod", ["runs", "was killed, too"])
def test_a_start_that_was_killed_before_the_account_existed_is_completed(
    tmp_path: Path, mongod: str
) -> None:
    with start_mongod(tmp_path) as first:
        store_note(first)
        with MongodAccess.load(tmp_path / "mongodb").open_as_system(first.port) as system:
            system.admin.command("dropUser", "carillon")
        if mongod != "runs":
            os.kill(first.pid, signal.SIGKILL)
        with start_mongod(tmp_path) as second:
            assert count_notes(second) == 1


def test_deleted_secrets_are_replaced_and_the_data_are_kept(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        store_note(server)
    (tmp_path / "mongodb.key").unlink()
    (tmp_path / "mongodb.password").unlink()
    with start_mongod(tmp_path) as server:
        assert count_notes(server) == 1


@pytest.mark.parametrize("name", ["mongodb.key", "mongodb.password", "redis.conf"])
def test_a_damaged_secret_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("requirepass \n")
    start = start_redis if name == "redis.conf" else start_mongod
    with pytest.raises(ConfigurationError, match=rf"{name} is damaged.*Delete the file"):
        start(tmp_path)


def test_a_socket_with_a_long_path_is_in_a_private_folder_with_a_random_name(
    tmp_path: Path, short_tmp: Path
) -> None:
    data_dir = tmp_path / ("long" * 25)
    with start_redis(data_dir) as server:
        (folder,) = short_tmp.iterdir()
        assert server.address == f"unix://{folder}/redis.sock"
        assert folder.stat().st_mode & 0o777 == 0o700
        with start_redis(data_dir) as second, redis.Redis.from_url(second.uri) as client:
            assert second.pid == server.pid
            assert client.ping()
        os.kill(server.pid, signal.SIGKILL)
        with start_redis(data_dir) as again:
            assert again.uri == server.uri


def make_readable(folder: Path) -> None:
    folder.chmod(0o755)


def replace_by_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize("plant", [make_readable, replace_by_link, Path.rmdir])
def test_a_short_folder_that_others_may_have_planted_is_not_used(
    tmp_path: Path, short_tmp: Path, plant: Callable[[Path], None]
) -> None:
    folder = tmp_path / ("long" * 25)
    first = choose_socket(folder, "redis.sock")
    assert choose_socket(folder, "redis.sock") == first
    plant(first.parent)
    second = choose_socket(folder, "redis.sock")
    assert second.parent != first.parent
    assert len(os.fsencode(second)) <= MAX_PATH_BYTES
    assert second.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_for_temporary_files_in_which_others_can_replace_folders_is_rejected(
    tmp_path: Path, short_tmp: Path
) -> None:
    short_tmp.chmod(0o777)
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        choose_socket(tmp_path / ("long" * 25), "redis.sock")
