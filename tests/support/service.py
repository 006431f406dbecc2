"""The whole service in a separate process, as `make run` starts it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
USERNAME = "admin"
PASSWORD = "correct horse battery"
START_SECONDS = 60
STOP_SECONDS = 60


class Service:
    """`python -m app all` on a free port of 127.0.0.1; its embedded servers use `data_dir`.

    `program` are the arguments of `python -m` that stand for `app`.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = ("app",),
    ) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.AsyncClient(base_url=self.url, timeout=10)
        self._settings = dict(settings or {})
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.log = data_dir / "service.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        environment = make_environment(self.port, self.data_dir)
        self._process = self._spawn(environment | {"PYTHONDONTWRITEBYTECODE": "1"} | self._settings)
        await eventually(self._is_ready, START_SECONDS, every=0.1)

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._program, "all"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return (await self.client.get("/health/ready")).status_code == 200
        except httpx2.TransportError:
            return False

    async def sign_in(self) -> None:
        form = {"username": USERNAME, "password": PASSWORD}
        response = await self.client.post("/token", data=form)
        assert response.status_code == 200, response.text
        self.client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that must succeed and return its JSON."""
        response = await self.client.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def list_executions(self, job_id: str) -> list[dict[str, Any]]:
        """Read all executions of a job, page by page. The newest slot is first."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            page = await self.call("GET", f"/jobs/{job_id}/executions", params=params)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    async def kill(self) -> None:
        """Send SIGKILL, so that the process cannot clean up."""
        await self._signal(signal.SIGKILL)

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        return await self._signal(signal.SIGTERM)

    async def _signal(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end of the process and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.to_thread(self._process.wait, STOP_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        await self.sign_in()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.client.aclose()
        if self._process is not None and self._process.poll() is None:
            await self.stop()


def make_environment(port: int, data_dir: Path) -> dict[str, str]:
    """Make the environment of a process of the service."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PORT": str(port),
        "DATA_DIR": str(data_dir),
        "ADMIN_USERNAME": USERNAME,
        "ADMIN_PASSWORD": PASSWORD,
        "HTTP_ALLOW_PRIVATE_HOSTS": "true",
        "LOG_FORMAT": "json",
    }


def add_user(name: str, environment: Mapping[str, str]) -> None:
    """Add a user with the password `PASSWORD` by the command of the service."""
    subprocess.run(
        [sys.executable, "-m", "app", "user", "add", name],
        cwd=ROOT,
        env=environment,
        input=f"{PASSWORD}\n",
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
