"""What other users of the machine cannot make the embedded mongod use: memory and disk."""

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from app.embedded.mongod import start_mongod
from app.embedded.mongod_access import MongodAccess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # each test starts a server of its own


def open_client(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=5000)


def test_mongod_accepts_a_limited_number_of_connections(tmp_path: Path) -> None:
    with (
        start_mongod(tmp_path) as server,
        MongodAccess.load(tmp_path / "mongodb").open_as_system(server.port) as system,
    ):
        connections = system.admin.command("serverStatus")["connections"]
    assert connections["current"] + connections["available"] == 500


def test_the_log_of_a_running_server_is_bounded(tmp_path: Path) -> None:
    log, kept = tmp_path / "mongodb.log", tmp_path / "mongodb.log.1"
    with start_mongod(tmp_path) as server, open_client(server.port) as client:
        with log.open("ab") as file:
            file.write(b"x" * 15_000_000 + b"newest")
        server.limit_log()
        assert b"newest" in kept.read_bytes()
        assert kept.stat().st_size == 10_000_000
        assert kept.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OperationFailure):
            client.admin.command("saslStart", 1, mechanism="SCRAM-SHA-256", payload=b"n,,n=a,r=b")
        wait_until(lambda: log.stat().st_size > 0)  # mongod continues in the emptied file
        assert log.stat().st_size < 1_000_000
        assert not log.read_bytes().startswith(b"\0")
