"""Attacks on the history: a job that fills the disk with responses, and a job that calls itself."""

import asyncio
import random
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

_SCHEDULES = 20
_LARGE_BODY = "".join(random.Random(0).choices(string.ascii_letters, k=65_536)).encode()
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
_MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class KeptHistory:
    """What the service keeps of one job."""

    executions: int
    with_bodies: int
    body_bytes: int


async def fill_the_disk(url: str, token: str, *, seconds: float) -> KeptHistory:
    """Let one job with 20 schedules of one second each get responses of 64 KB. The service must
    allow private hosts. Returns what is kept of them after the attack."""
    schedule = {"type": "interval", "interval_seconds": 1}
    async with _open_client(url, token) as client, _open_receiver() as receiver:
        job = await _call(
            client,
            "POST",
            "/jobs",
            json={
                "name": "fills the disk",
                "target": {"type": "http", "url": receiver},
                "overlap_policy": "allow_all",
                "schedules": [schedule] * _SCHEDULES,
            },
        )
        await asyncio.sleep(seconds)
        await _call(client, "POST", f"/jobs/{job['id']}/deactivate")
        return await measure_history(client, job["id"])


async def call_itself(url: str, token: str, *, seconds: float) -> int:
    """Let a job execute itself by the API, without a pause. Returns the number of executions."""
    async with _open_client(url, token) as client:
        job = await _call(
            client, "POST", "/jobs", json={"name": "calls itself", "target": {"type": "log"}}
        )
        path = f"/jobs/{job['id']}"
        target = {
            "type": "http",
            "url": f"{url}{path}/execute",
            "headers": {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            "body": {},
        }
        await _call(client, "PATCH", path, json={"target": target, "retry": {"max_attempts": 1}})
        await _call(client, "POST", f"{path}/execute")
        await asyncio.sleep(seconds)
        count = (await measure_history(client, job["id"])).executions
        await _call(client, "DELETE", path)
        return count


async def measure_history(client: httpx2.AsyncClient, job_id: str) -> KeptHistory:
    """Read all executions of a job, with their bodies."""
    executions = with_bodies = body_bytes = 0
    params: dict[str, Any] = {"limit": 100, "fields": "full"}
    for _ in range(_MOST_PAGES):
        page = await _call(client, "GET", f"/jobs/{job_id}/executions", params=params)
        for execution in page["items"]:
            kept = sum(map(_count_body_bytes, execution["attempts"]))
            executions, body_bytes = executions + 1, body_bytes + kept
            with_bodies += kept > 0
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    return KeptHistory(executions, with_bodies, body_bytes)


def _count_body_bytes(attempt: dict[str, Any]) -> int:
    return len(((attempt.get("response") or {}).get("body") or "").encode())


async def _call(client: httpx2.AsyncClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    if not response.is_success:
        raise AssertionError(f"{method} {path}: {response.status_code} {response.text[:300]}")
    return response.json() if response.content else None


@asynccontextmanager
async def _open_client(url: str, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
        yield client


@asynccontextmanager
async def _open_receiver() -> AsyncIterator[str]:
    """A server on 127.0.0.1 that responds to each request with 64 KB. Yields its URL."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_RESPONSE % (len(_LARGE_BODY), _LARGE_BODY))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
