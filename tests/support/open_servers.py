"""A mongod and a redis-server of `app/embedded/` as releases before the passwords started them.

Anybody on this machine can use them. The tests use them because their URIs are short, because
options can be added, and because a new connection needs no computation of a password's hash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.embedded.loopback import HOST, find_free_port, is_listening
from app.embedded.mongod import configure_replica_set, prepare_mongod
from app.embedded.redis_server import find_redis_server
from app.embedded.shared_server import SharedServer, start

_REPLICA_SET = "carillon"


def start_open_mongod(data_dir: Path, *, extra_args: Sequence[str] = ()) -> SharedServer:
    """Start the folder's mongod, or use the one that runs. Returns when it takes writes."""
    executable = prepare_mongod()
    assert executable is not None, "There is no mongod. `make run` prints how to get one."
    data_dir.mkdir(parents=True, exist_ok=True)
    return start(data_dir / "mongodb", lambda folder: _OpenMongod(executable, folder, extra_args))


def start_open_redis(data_dir: Path, *, extra_args: Sequence[str] = ()) -> SharedServer:
    """Start the folder's redis-server, or use the one that runs."""
    executable = find_redis_server()
    assert executable is not None, "There is no redis-server: apt-get install redis-server."
    data_dir.mkdir(parents=True, exist_ok=True)
    return start(data_dir / "redis", lambda folder: _OpenRedis(executable, folder, extra_args))


@dataclass(frozen=True)
class _OpenMongod:
    executable: Path
    folder: Path
    extra_args: Sequence[str]

    def choose_port(self, previous: int) -> int:
        return find_free_port(previous)

    def build_command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--dbpath", str(self.folder), "--port", str(port),
            "--bind_ip", HOST, "--nounixsocket", "--replSet", _REPLICA_SET,
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256", "--quiet",
            "--setParameter", "diagnosticDataCollectionEnabled=false", *self.extra_args,
        ]  # fmt: skip

    def build_uri(self, port: int) -> str:
        return f"mongodb://{HOST}:{port}/?replicaSet={_REPLICA_SET}"

    def describe_address(self, port: int) -> str:
        return self.build_uri(port)

    def make_ready(self, port: int) -> int | None:
        if not is_listening(port):
            return None
        client: MongoClient[dict[str, Any]]
        client = MongoClient(
            HOST, port, directConnection=True, serverSelectionTimeoutMS=500, timeoutMS=5000
        )
        with client:
            try:
                options = client.admin.command("getCmdLineOpts")["parsed"]
                if options["storage"]["dbPath"] != str(self.folder):
                    return None
                configure_replica_set(client, _REPLICA_SET, f"{HOST}:{port}")
                if not client.admin.command("hello")["isWritablePrimary"]:
                    return None
                return int(client.admin.command("serverStatus")["pid"])
            except PyMongoError:
                return None


@dataclass(frozen=True)
class _OpenRedis:
    executable: Path
    folder: Path
    extra_args: Sequence[str]

    def choose_port(self, previous: int) -> int:
        return find_free_port(previous)

    def build_command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--port", str(port), "--bind", HOST, "--protected-mode", "yes",
            "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--loglevel", "warning",
            *self.extra_args,
        ]  # fmt: skip

    def build_uri(self, port: int) -> str:
        return f"redis://{HOST}:{port}/0"

    def describe_address(self, port: int) -> str:
        return self.build_uri(port)

    def make_ready(self, port: int) -> int | None:
        with redis.Redis(HOST, port, socket_timeout=5) as client:
            try:
                if client.config_get("dir")["dir"] != str(self.folder):
                    return None
                return int(client.info("server")["process_id"])
            except redis.RedisError:
                return None
