"""Attacks of many connections: bodies that do not end, files that nobody reads, health checks.

Each function is bounded in connections and time, and returns what the attacker observed. The
connections come from addresses of 127.0.0.0/8, so nothing leaves the machine.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine

from tests.chaos.hostile.clients import connect, read_status

_ADDRESSES = [f"127.0.1.{number}" for number in range(1, 101)]
_BODY_BYTES = 262_144
_MISSING_BYTES = 20
_LARGEST_FILE = "/static/swagger/swagger-ui-bundle.js"


async def hold_bodies(
    url: str, token: str, *, connections: int = 2_000, seconds: float = 20
) -> dict[str, object]:
    """Send bodies of 256 KB without their last 20 bytes, from 100 addresses, and wait.
    Connections that are closed are opened again."""
    head = (
        "POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {_BODY_BYTES}\r\n\r\n"
    )
    request = head.encode() + b" " * (_BODY_BYTES - _MISSING_BYTES)
    until = time.monotonic() + seconds
    ends: Counter[str] = Counter()

    async def hold(number: int) -> str:
        source = _ADDRESSES[number % len(_ADDRESSES)]
        async with connect(url, source=source) as (reader, writer):
            writer.write(request)
            return await read_status(reader, until - time.monotonic())

    async def hold_again(number: int) -> None:
        while time.monotonic() < until:
            ends.update(await _count_ends(hold(number)))
            await asyncio.sleep(0.1)

    await asyncio.gather(*(hold_again(number) for number in range(connections)))
    return {"answers": ends}


async def leave_files_unread(
    url: str, *, connections: int = 200, seconds: float = 20
) -> dict[str, object]:
    """Request a file of 1 MB 100 times on each connection, from two addresses, and read nothing."""
    requests = f"GET {_LARGEST_FILE} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 100

    async def request_and_wait(number: int) -> str:
        source = _ADDRESSES[number % 2]
        async with connect(url, source=source, limit=1) as (reader, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(requests)
            await asyncio.sleep(seconds)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            return "response" if await reader.read(1) else "closed"

    return {"answers": await _count_ends(*(request_and_wait(n) for n in range(connections)))}


async def check_health(url: str, *, checks: int = 1_000, rounds: int = 5) -> dict[str, object]:
    """Ask for the health of the service on 1,000 connections of one address at once."""
    request = b"GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    async def check() -> str:
        async with connect(url, source=_ADDRESSES[0]) as (reader, writer):
            writer.write(request)
            return await read_status(reader, 60)

    answers: Counter[str] = Counter()
    for _ in range(rounds):
        answers += await _count_ends(*(check() for _ in range(checks)))
    return {"answers": answers}


async def _count_ends(*attempts: Coroutine[None, None, str]) -> Counter[str]:
    """How often each answer or error came."""
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    return Counter(end if isinstance(end, str) else type(end).__name__ for end in ends)
