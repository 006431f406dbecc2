"""The socket on which the service listens."""

import asyncio
import socket
from contextlib import AsyncExitStack, ExitStack

import uvloop

from app.cli import _SEND_BUFFER_BYTES, _bind
from app.http_server.startup import ACCEPTED_AT_ONCE, share_listener
from tests.support.waiting import run_other_tasks


def test_the_kernel_keeps_little_of_a_response_that_nobody_reads() -> None:
    with _bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
            size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size <= 2 * _SEND_BUFFER_BYTES  # Linux doubles it for its own data


def test_connections_do_not_wait_a_turn_of_the_event_loop_for_each_one_before_them() -> None:
    connections = 4 * ACCEPTED_AT_ONCE
    turns = uvloop.run(_count_turns_to_accept(connections))
    assert turns < connections / 4


async def _count_turns_to_accept(connections: int) -> int:
    """How many turns the event loop needs to accept connections that all wait at once."""
    accepted: list[asyncio.Transport] = []

    class Acceptance(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            accepted.append(transport)

    turns, loop = 0, asyncio.get_running_loop()
    async with AsyncExitStack() as servers:
        with ExitStack() as clients:
            listener = _bind("127.0.0.1", 0)
            for one in share_listener(listener):
                server = await loop.create_server(Acceptance, sock=one, backlog=connections)
                await servers.enter_async_context(server)
            for _ in range(connections):
                clients.enter_context(socket.create_connection(listener.getsockname()))
            while len(accepted) < connections:
                turns += 1
                await run_other_tasks()
            for transport in accepted:
                transport.abort()
    return turns
