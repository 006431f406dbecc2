"""Requests of a user with a token that are expensive to read: bodies, queries and cookies."""

from collections import Counter
from collections.abc import Iterator

import httpx2

from tests.chaos.hostile.calls import Call, send_all

_MANY = 500_000


async def send_expensive_requests(
    client: httpx2.AsyncClient, *, rounds: int = 3, parallel: int = 4
) -> Counter[int]:
    """Send every request `rounds` times, `parallel` at once. Returns how often each status came."""
    calls = [_make_call(*request) for request in list_requests()]
    return await send_all(client, calls * rounds, at_once=parallel)


def _make_call(path: str, content: bytes, cookie: str) -> Call:
    headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
    return "POST" if content else "GET", path, {"content": content, "headers": headers}


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
