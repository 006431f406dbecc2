"""The protocol in a real server, with real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.http_server.connections import CONNECTIONS, Connections
from app.http_server.protocol import LimitedProtocol
from app.http_server.request_limits import MAX_HEAD_BYTES
from tests.support.waiting import eventually

LIMIT = 4


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the address of the client. The lifespan passes the connections."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"][CONNECTIONS] = Connections(LIMIT)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    client = scope["client"][0].encode()
    length = (b"content-length", str(len(client)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": client})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(respond, port=0, http=LimitedProtocol, log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *headers: bytes) -> Any:
    lines = [b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""]
    writer.write(b"\r\n".join(lines))
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split()[1], await reader.read(100)


async def test_a_client_with_a_huge_header_reads_the_431(port: int) -> None:
    reader, writer = await connect(port)
    with contextlib.suppress(ConnectionError):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10 * MAX_HEAD_BYTES)
        await writer.drain()
    assert (await reader.readline()).split()[1] == b"431"
    writer.close()


async def test_idle_connections_do_not_lock_others_out(port: int) -> None:
    idle = [await connect(port) for _ in range(3 * LIMIT)]
    reader, writer = await connect(port)
    assert (await get(reader, writer))[0] == b"200"
    kept = LIMIT // 2 - 1
    for old_reader, old_writer in idle[:-kept]:
        with contextlib.suppress(ConnectionError):
            assert await old_reader.read() == b""
        old_writer.close()
    for old_reader, old_writer in idle[-kept:]:
        assert (await get(old_reader, old_writer))[0] == b"200"
        old_writer.close()
    writer.close()


async def test_uvicorns_own_rule_for_proxies_does_not_apply(port: int) -> None:
    reader, writer = await connect(port)
    assert await get(reader, writer, b"X-Forwarded-For: 192.0.2.7") == (b"200", b"127.0.0.1")
    writer.close()
