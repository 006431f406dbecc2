"""What the http target receives below HTTP, and that it is soon over after the attempt."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure
from app.models.target import HttpTargetSpec
from app.targets.egress import EgressPolicy
from app.targets.received_bytes import CHECK_INTERVAL, MAX_RECEIVED_BYTES, TOO_MANY_BYTES
from tests.support.certificates import make_self_signed_context, make_trusting_context
from tests.support.clock import ManualClock
from tests.support.deliveries import DELIVERY
from tests.support.floods import HELLO_REQUESTS
from tests.support.http_target import assert_fails, open_target
from tests.support.receiver import HOST
from tests.support.waiting import eventually, run_other_tasks

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a receiver that every http target trusts."""
    context = make_self_signed_context(tmp_path)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", make_trusting_context(tmp_path))
    return context


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets that http targets open. The kernel keeps little of what they send."""
    sockets: list[socket.socket] = []
    open_socket = EgressPolicy.open_socket

    def open_and_keep(self: EgressPolicy, address: aiohttp.AddrInfoType) -> socket.socket:
        sockets.append(open_socket(self, address))
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        return sockets[-1]

    monkeypatch.setattr(EgressPolicy, "open_socket", open_and_keep)
    return sockets


@asynccontextmanager
async def accept_one() -> AsyncIterator[tuple[str, "asyncio.Future[asyncio.StreamWriter]"]]:
    """Run a TCP server, give its https URL and later its connection."""
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set_result(writer)

    async with await asyncio.start_server(accept, HOST, 0) as server:
        yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}/", connected
        (await connected).transport.abort()


async def count_accepted(data: bytes) -> int:
    """Return how many bytes a target accepts, in blocks of `data`, until the attempt fails."""
    clock, accepted = ManualClock(), 0
    async with open_target(clock=clock) as target, accept_one() as (url, connected):
        delivering = asyncio.ensure_future(target.deliver(HttpTargetSpec(url=url), DELIVERY))
        writer = await connected
        while not delivering.done() and accepted < 2 * MAX_RECEIVED_BYTES:
            writer.write(data)
            await eventually(lambda: not writer.transport.get_write_buffer_size())
            accepted += len(data)
            await run_other_tasks(20)  # the target reads
            clock.advance(CHECK_INTERVAL)
            await run_other_tasks(20)
        async with asyncio.timeout(5):
            outcome = await delivering
    assert_fails(outcome, Failure.CONNECTION_ERROR, TOO_MANY_BYTES)
    return accepted


@LOOPS
def test_endless_messages_of_the_handshake_fail_the_attempt_after_a_bounded_number_of_bytes(
    run: Run,
) -> None:
    block = HELLO_REQUESTS.make_block()

    async def attack() -> None:
        assert MAX_RECEIVED_BYTES < await count_accepted(block) <= MAX_RECEIVED_BYTES * 1.5

    run(attack())


@contextmanager
def serve_once(tls: ssl.SSLContext, script: Callable[[ssl.SSLSocket], object]) -> Iterator[str]:
    """Run the script in a thread for one connection of a TLS server, and give the server's URL."""

    def accept() -> None:
        connection, _ = server.accept()
        with tls.wrap_socket(connection, server_side=True) as stream:
            script(stream)

    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        server.bind((HOST, 0))
        server.listen()
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"https://{HOST}:{server.getsockname()[1]}/"
        finally:
            thread.join()


@LOOPS
def test_the_connection_of_an_attempt_over_tls_is_closed_when_the_attempt_is_over(
    run: Run, tls: ssl.SSLContext, opened: list[socket.socket]
) -> None:
    closed = threading.Event()

    def respond_and_stay_silent(stream: ssl.SSLSocket) -> None:
        stream.recv(65_536)
        stream.sendall(OK)
        closed.wait(10)

    async def deliver() -> None:
        async with open_target() as target:
            outcome = await target.deliver(HttpTargetSpec(url=url), DELIVERY)
            assert outcome.outcome is AttemptOutcome.SUCCEEDED
            await eventually(lambda: opened[0].fileno() == -1)
            closed.set()

    with serve_once(tls, respond_and_stay_silent) as url:
        run(deliver())


@LOOPS
def test_a_request_is_sent_to_its_end_though_the_response_came_before_it_was_read(
    run: Run, tls: ssl.SSLContext, opened: list[socket.socket]
) -> None:
    body, received, over = b"x" * 200_000, bytearray(), threading.Event()

    def respond_and_read(stream: ssl.SSLSocket) -> None:
        stream.sendall(OK)
        over.wait(10)
        with suppress(OSError):
            while not received.endswith(body) and (part := stream.recv(65_536)):
                received.extend(part)

    async def deliver() -> None:
        async with open_target() as target:
            spec = HttpTargetSpec(url=url, body=body.decode())
            outcome = await target.deliver(spec, DELIVERY)
            assert outcome.outcome is AttemptOutcome.SUCCEEDED
            over.set()
            await eventually(lambda: opened[0].fileno() == -1)

    with serve_once(tls, respond_and_read) as url:
        run(deliver())
    assert received.endswith(body)
