"""A redis-server that a test may kill, freeze and start again."""

import signal
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from app.embedded.redis_server import find_redis_server
from tests.support.service import free_port

_TIMEOUT_SECONDS = 60


class RedisServer:
    """A redis-server without persistence, always on the same port of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.uri = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it responds."""
        executable = find_redis_server()
        assert executable is not None, "There is no redis-server: apt-get install redis-server."
        options = f"--port {self._port} --bind 127.0.0.1 --appendonly no".split()
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(executable), *options, "--save", ""],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ends_at = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                self.send_command("PING")
            except RedisError:
                if time.monotonic() > ends_at or self._ends_within(0.05):
                    raise
            else:
                return

    def _ends_within(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send_command(self, *command: str) -> object:
        with Redis(port=self._port, socket_timeout=5) as client:
            return client.execute_command(*command)

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(_TIMEOUT_SECONDS)
