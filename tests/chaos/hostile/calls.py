"""Sends the requests of a user many at once."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx2

Call = tuple[str, str, dict[str, Any]]
"""Method, path and the other arguments of a request."""

NO_RESPONSE = 0
"""Stands for the status where the service closed the connection without a response."""


async def send_all(
    client: httpx2.AsyncClient, calls: Iterable[Call], *, at_once: int
) -> Counter[int]:
    """Send the requests, so many at once. Returns how often each status came."""
    statuses: Counter[int] = Counter()
    waiting = iter(calls)

    async def send() -> None:
        for method, path, options in waiting:
            statuses[await _send(client, method, path, options)] += 1

    await asyncio.gather(*(send() for _ in range(at_once)))
    return statuses


async def _send(client: httpx2.AsyncClient, method: str, path: str, options: dict[str, Any]) -> int:
    try:
        return (await client.request(method, path, **options)).status_code
    except httpx2.TransportError:
        return NO_RESPONSE


async def create_job(client: httpx2.AsyncClient, **fields: Any) -> str:
    """Create a job that logs, or as the fields say, and return its id."""
    body = {"name": "attacks", "target": {"type": "log"}, "overlap_policy": "allow_all", **fields}
    response = await client.post("/jobs", json=body)
    assert response.is_success, f"the attacker cannot create a job: {response.text}"
    job_id: str = response.json()["id"]
    return job_id


async def delete_jobs(client: httpx2.AsyncClient) -> Counter[int]:
    """Delete all jobs of the user: at most 12,000."""
    statuses: Counter[int] = Counter()
    for _ in range(60):
        page = (await client.get("/jobs", params={"limit": 200})).json()["items"]
        if not page:
            break
        deletions: list[Call] = [("DELETE", f"/jobs/{job['id']}", {}) for job in page]
        statuses += await send_all(client, deletions, at_once=8)
    return statuses
