"""Receivers that answer the attempts of an attacker's jobs with endless bytes without content.

`python -m tests.chaos.hostile.receivers` is such a receiver: a process of its own, so that it sends
at full speed. It prints its port. The path of a request is the number of the flood. A client that
starts TLS gets HelloRequests.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from tests.chaos.hostile.calls import create_job
from tests.support.floods import BEFORE_THE_HEAD, HELLO_REQUESTS, IN_THE_BODY, INVALID, Flood

ROOT = Path(__file__).resolve().parents[3]
_BELOW_HTTP = {"HelloRequests of TLS": HELLO_REQUESTS}
FLOODS = BEFORE_THE_HEAD | IN_THE_BODY | INVALID | _BELOW_HTTP
TIMEOUT_SECONDS = 30
"""Of an attempt. The receiver sends for as long."""

_FINAL = {"succeeded", "failed", "timed_out", "cancelled"}
_HOST = "127.0.0.1"
_TLS_HANDSHAKE = b"\x16"


async def flood_attempts(
    attacker: httpx2.AsyncClient,
    *,
    floods: Sequence[str] = tuple(FLOODS),
    executions: int = 4,
    seconds: float = 120,
) -> dict[str, Counter[str]]:
    """Execute a job `executions` times for each flood, and wait until all have finished.

    `attacker` is a client that has signed in. Returns how often the attempts of each flood ended
    with which error. Raises TimeoutError after `seconds`. Deletes the jobs at the end.
    """
    jobs: dict[str, str] = {}
    async with _run_receiver() as address:
        try:
            for name in floods:
                scheme = "https" if name in _BELOW_HTTP else "http"
                url = f"{scheme}://{address}/{list(FLOODS).index(name)}"
                jobs[name] = await create_job(
                    attacker,
                    target={"type": "http", "url": url},
                    timeout_seconds=TIMEOUT_SECONDS,
                    retry={"max_attempts": 1},
                )
            started = [
                (name, await _execute(attacker, job_id))
                for _ in range(executions)
                for name, job_id in jobs.items()
            ]
            errors: dict[str, Counter[str]] = {name: Counter() for name in floods}
            async with asyncio.timeout(seconds):
                for name, execution_id in started:
                    if execution_id is None:
                        continue
                    errors[name][await _wait_for_end(attacker, execution_id)] += 1
            return errors
        finally:
            for job_id in jobs.values():
                with contextlib.suppress(httpx2.TransportError):
                    await attacker.delete(f"/jobs/{job_id}")


async def _execute(client: httpx2.AsyncClient, job_id: str) -> str | None:
    """Return the id of the execution, or None if the service does not respond any more."""
    with contextlib.suppress(httpx2.TransportError):
        response = await client.post(f"/jobs/{job_id}/execute")
        if response.is_success:
            return str(response.json()["id"])
    return None


async def _wait_for_end(client: httpx2.AsyncClient, execution_id: str) -> str:
    while True:
        # A service that the attack stops does not respond.
        with contextlib.suppress(httpx2.TransportError):
            execution = (await client.get(f"/executions/{execution_id}")).json()
            if execution.get("status") in _FINAL:
                attempts = execution["attempts"]
                return str(attempts[-1]["error"] if attempts else execution["status"])
        await asyncio.sleep(0.5)


@asynccontextmanager
async def _run_receiver() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.hostile.receivers",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield f"{_HOST}:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


def serve() -> None:
    with socket.create_server((_HOST, 0), backlog=512) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_send, args=(connection,), daemon=True).start()


def _send(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        flood = _read_flood(connection)
        block, ends_at = flood.make_block(), time.monotonic() + TIMEOUT_SECONDS
        connection.sendall(flood.start)
        while time.monotonic() < ends_at:
            connection.sendall(block)


def _read_flood(connection: socket.socket) -> Flood:
    """Return the flood that the request asks for."""
    head = connection.recv(65_536)
    if head.startswith(_TLS_HANDSHAKE):
        return HELLO_REQUESTS
    while b"\r\n\r\n" not in head:
        head += connection.recv(65_536)
    number = int(head.split(b" ")[1].removeprefix(b"/"))
    return list(FLOODS.values())[number]


if __name__ == "__main__":
    serve()
