"""The embedded redis-server: in memory only, shared by the data directory's processes.

It listens on a Unix socket in a folder of the current user and requires a password. A TCP port
could be reached by every user of the machine, and another program could take it over.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import redis

from app.embedded.data_dir import make_folder
from app.embedded.private_files import load_secret
from app.embedded.shared_server import SharedServer, start
from app.embedded.socket_folder import choose_socket
from app.errors import ConfigurationError

_PASSWORD_OPTION = "requirepass"


def start_redis(data_dir: Path) -> SharedServer:
    """Start the data directory's redis-server, or use the one that runs.

    Blocks. Raises ConfigurationError.
    """
    executable = find_redis_server()
    if executable is None:
        raise ConfigurationError(
            "Neither redis-server nor valkey-server is on the PATH."
            " On Debian and Ubuntu: apt-get install redis-server."
        )
    return start(make_folder(data_dir) / "redis", lambda folder: _Redis.prepare(executable, folder))


def find_redis_server() -> Path | None:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@dataclass(frozen=True)
class _Redis:
    executable: Path
    folder: Path
    socket: Path
    config: Path
    password: str = field(repr=False)

    @classmethod
    def prepare(cls, executable: Path, folder: Path) -> "_Redis":
        # Every user can read the arguments of a process, so the password is in a file.
        config = folder.parent / f"{folder.name}.conf"
        password = load_secret(config, label=f"{_PASSWORD_OPTION} ")
        return cls(executable, folder, choose_socket(folder, "redis.sock"), config, password)

    def choose_port(self, previous: int) -> int:
        return 0

    def build_command(self, port: int) -> list[str]:
        return [
            str(self.executable), str(self.config), "--port", "0",
            "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--loglevel", "warning",
        ]  # fmt: skip

    def build_uri(self, port: int) -> str:
        return f"unix://:{self.password}@{quote(os.fspath(self.socket))}?db=0"

    def describe_address(self, port: int) -> str:
        return f"unix://{self.socket}"

    def make_ready(self, port: int) -> int | None:
        try:
            with redis.Redis(
                unix_socket_path=str(self.socket), password=self.password, socket_timeout=5
            ) as client:
                if client.config_get("dir")["dir"] != str(self.folder):
                    return None
                return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None
