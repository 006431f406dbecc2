"""Attacks of clients that have no token: they have only the address of the service.

Each function is given the base URL, is bounded in bytes, connections and time, and returns what the
attacker observed. Nothing leaves the machine.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

Attack = Callable[[str], Awaitable[dict[str, object]]]

MEGABYTE = 1_048_576
_PIECE = b"a" * 65_536
_ATTACKER = "127.0.0.2"
"""The address that the attacks come from, so that the limits of an address spare the probes."""


async def send_huge_header(url: str, *, megabytes: int = 120) -> dict[str, object]:
    """Send a request with one header of 120 MB."""
    sent = 0
    async with connect(url) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Huge: ")
            for _ in range(megabytes * MEGABYTE // len(_PIECE)):
                writer.write(_PIECE)
                await writer.drain()
                sent += len(_PIECE)
            writer.write(b"\r\n\r\n")
            await writer.drain()
        return {"bytes sent": sent, "answer": await read_status(reader, 60)}


async def send_endless_framing(url: str, *, megabytes: int = 60) -> dict[str, object]:
    """Send a chunk extension, and then a trailer, that do not end."""
    answers = []
    for start in (b"5;a=", b"1\r\na\r\n0\r\nX-Trailer: "):
        async with connect(url) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(
                    b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + start
                )
                for _ in range(megabytes * MEGABYTE // len(_PIECE)):
                    writer.write(_PIECE)
                    await writer.drain()
            answers.append(await read_status(reader, 60))
    return {"answers": answers}


async def hold_connections(
    url: str, *, connections: int = 3_000, seconds: float = 90
) -> dict[str, object]:
    """Open connections, send nothing or half a request, and wait until the service closes them."""
    until = time.monotonic() + seconds
    closed = await asyncio.gather(
        *(_hold(url, b"" if n % 2 else b"GET / HTTP/1.1\r\nX: ", until) for n in range(connections))
    )
    times = [one for one in closed if one is not None]
    return {
        "connections": connections,
        "closed by the service": len(times),
        "longest open, s": round(max(times, default=seconds), 1),
    }


async def _hold(url: str, start: bytes, until: float) -> float | None:
    """The time after which the service closed a connection, or None if it did not until then."""
    began = time.monotonic()
    try:
        async with connect(url) as (reader, writer):
            writer.write(start)
            async with asyncio.timeout(max(1.0, until - time.monotonic())):
                while await reader.read(4_096):
                    pass
    except TimeoutError:
        return None
    except OSError:
        pass
    return time.monotonic() - began


async def send_huge_forms(url: str, *, requests: int = 10) -> dict[str, object]:
    """Sign in with forms of 1 MB that consist of `&`."""
    answers = Counter([await _post_form(url, b"&" * (MEGABYTE - 10)) for _ in range(requests)])
    return {"answers": dict(answers)}


async def guess_passwords(url: str, *, guesses: int = 1_000) -> dict[str, object]:
    """Guess passwords, all at once."""
    bodies = [f"username=user{n}&password=a wrong password {n}".encode() for n in range(guesses)]
    answers = Counter(await asyncio.gather(*(_post_form(url, body) for body in bodies)))
    return {"answers": dict(answers)}


async def never_read(url: str, *, connections: int = 300, seconds: float = 60) -> dict[str, object]:
    """Request the OpenAPI document 20 times on each connection, and read nothing."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 20

    async def request_and_wait() -> bool:
        with contextlib.suppress(OSError):
            async with connect(url, limit=1) as (reader, writer):
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(request)
                await asyncio.sleep(seconds)
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                while await asyncio.wait_for(reader.read(MEGABYTE), 5):
                    pass
        return True

    await asyncio.gather(*(request_and_wait() for _ in range(connections)), return_exceptions=True)
    return {"connections": connections}


ATTACKS: dict[str, Attack] = {
    "one header of 120 MB": send_huge_header,
    "endless chunk extensions and trailers": send_endless_framing,
    "idle and half-sent connections": hold_connections,
    "forms of 1 MB": send_huge_forms,
    "1,000 guesses at once": guess_passwords,
    "responses that nobody reads": never_read,
}


async def _post_form(url: str, body: bytes) -> str:
    head = (
        f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    )
    try:
        async with connect(url) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(head.encode() + body)
                await writer.drain()
            return await read_status(reader, 60)
    except OSError as error:
        return type(error).__name__


@contextlib.asynccontextmanager
async def connect(
    url: str, *, source: str = _ATTACKER, limit: int = 65_536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(source, 0), limit=limit
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_status(reader: asyncio.StreamReader, seconds: float) -> str:
    """The status of the response, or why there was none."""
    try:
        async with asyncio.timeout(seconds):
            line = await reader.readline()
    except (OSError, TimeoutError, ValueError) as error:
        return type(error).__name__
    return line.split()[1].decode() if line else "closed"
