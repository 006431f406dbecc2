"""Requests of a user with a token that are expensive to read: bodies, queries and cookies."""

import asyncio
from collections.abc import Iterator

import httpx2

_SECONDS_OF_A_REQUEST = 60.0
_MANY = 500_000


async def send_expensive_requests(
    base_url: str, token: str, *, rounds: int = 3, parallel: int = 4
) -> dict[int, int]:
    """Send every request `rounds` times, `parallel` at once. Returns how often each status came;
    0 counts connections that the service closed without a response."""
    statuses: dict[int, int] = {}
    places = asyncio.Semaphore(parallel)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def send(path: str, content: bytes, cookie: str) -> None:
        extra = {"Cookie": cookie} if cookie else {}
        method = "POST" if content else "GET"
        async with places:
            try:
                response = await client.request(
                    method, path, content=content, headers={**headers, **extra}
                )
                status = response.status_code
            except httpx2.TransportError:
                status = 0
        statuses[status] = statuses.get(status, 0) + 1

    requests = [*list_requests()] * rounds
    async with httpx2.AsyncClient(base_url=base_url, timeout=_SECONDS_OF_A_REQUEST) as client:
        await asyncio.gather(*(send(*request) for request in requests))
    return statuses


def list_requests() -> Iterator[tuple[str, bytes, str]]:
    """Path, body (empty: a GET) and cookie of each request. Some are over a limit, and some are as
    large as the limits allow."""
    for count in (_MANY, 19_000):
        for item in (b"7", b"[]", b"{}", b"null", b'""'):
            items = b",".join([item] * count)
            yield "/jobs", b'{"name": "x", "retry": {"retry_on": [' + items + b"]}}", ""
            yield "/jobs", b'{"name": "x", "tags": [' + items + b"]}", ""
        members = b",".join(b'"k%d":{}' % number for number in range(count))
        yield "/jobs", b"{" + members + b"}", ""
        target = b'{"type": "http", "url": "https://example.com/", "headers": {' + members + b"}}"
        yield "/jobs", b'{"name": "x", "target": ' + target + b"}", ""
        yield "/schedules/preview", b"[" * count, ""
    yield "/jobs?" + "&".join(f"a{number}" for number in range(4_000)), b"", ""
    yield "/jobs", b"", 'a="' + '\\"' * 12_000 + '"'
