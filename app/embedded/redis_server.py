"""The embedded redis-server: in memory only, shared by the data directory's processes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from app.embedded.data_dir import make_folder
from app.embedded.shared_server import HOST, SharedServer, start
from app.errors import ConfigurationError


def start_redis(data_dir: Path, *, extra_args: Sequence[str] = ()) -> SharedServer:
    """Start the data directory's redis-server, or use the one that runs.

    `extra_args` have no effect on a server that already runs. Blocks. Raises ConfigurationError.
    """
    executable = find_redis_server()
    if executable is None:
        raise ConfigurationError(
            "Neither redis-server nor valkey-server is on the PATH."
            " On Debian and Ubuntu: apt-get install redis-server."
        )
    return start(_Redis(executable, make_folder(data_dir) / "redis", extra_args))


def find_redis_server() -> Path | None:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@dataclass
class _Redis:
    executable: Path
    folder: Path
    extra_args: Sequence[str]

    def build_command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--port", str(port), "--bind", HOST, "--protected-mode", "yes",
            "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--loglevel", "warning",
            *self.extra_args,
        ]  # fmt: skip

    def build_uri(self, port: int) -> str:
        return f"redis://{HOST}:{port}/0"

    def make_ready(self, port: int) -> int | None:
        with redis.Redis(HOST, port, socket_timeout=5) as client:
            try:
                if client.config_get("dir")["dir"] != str(self.folder):
                    return None
                return int(client.info("server")["process_id"])
            except redis.RedisError:
                return None
