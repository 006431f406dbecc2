"""A user with large jobs who reads long listings, and clients that never read their responses."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

JOBS = 100
READS = 5
SILENT_CLIENTS = 300
SILENT_SECONDS = 10.0
_LARGEST_JSON = 60_000
_PAGE = "/jobs?limit=200&sort=name"
_LISTINGS = (_PAGE, f"{_PAGE}&fields=full", "/executions?limit=200&fields=full")


async def read_large_listings(base_url: str, headers: Mapping[str, str]) -> int:
    """Create large jobs, read whole pages of them in parallel, and leave responses unread.

    `headers` has the token of a user whose jobs nobody else needs. Returns the size of the largest
    response in bytes. Deletes the jobs at the end.
    """
    async with httpx2.AsyncClient(base_url=base_url, headers=dict(headers), timeout=60) as client:
        created = [await _create_large_job(client, n) for n in range(JOBS)]
        try:
            sizes = []
            for _ in range(READS):
                responses = await asyncio.gather(*(client.get(path) for path in _LISTINGS))
                sizes += [len(response.content) for response in responses]
            await _leave_responses_unread(base_url, headers)
        finally:
            for job_id in created:
                await client.delete(f"/jobs/{job_id}")
    return max(sizes)


async def _create_large_job(client: httpx2.AsyncClient, number: int) -> str:
    """Create a job that never runs, with parameters and a body of the largest size."""
    target = {"type": "http", "url": "https://example.com/", "body": "x" * _LARGEST_JSON}
    body = {
        "name": f"large {number}",
        "target": target,
        "parameters": {"a": "x" * _LARGEST_JSON},
        "active": False,
    }
    response = await client.post("/jobs", json=body)
    response.raise_for_status()
    job_id: str = response.json()["id"]
    return job_id


async def _leave_responses_unread(base_url: str, headers: Mapping[str, str]) -> None:
    """Send requests for large pages on many connections, and read nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(SILENT_CLIENTS):
            await _send_request(stack, base_url, headers)
        await asyncio.sleep(SILENT_SECONDS)


async def _send_request(
    stack: contextlib.ExitStack, base_url: str, headers: Mapping[str, str]
) -> None:
    address = urlsplit(base_url)
    lines = [f"GET {_PAGE}&fields=full HTTP/1.1", f"Host: {address.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (address.hostname, address.port))
    await loop.sock_sendall(connection, "\r\n".join([*lines, "", ""]).encode())
