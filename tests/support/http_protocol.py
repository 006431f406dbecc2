"""A connection of the HTTP server whose transport and timers are in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.http_server.connections import CONNECTIONS, Connections
from app.http_server.protocol import LimitedProtocol
from tests.support.waiting import run_other_tasks

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Application:
    """Responds to each request with its path and its body, and keeps the scopes."""

    def __init__(self, *, reads: bool = True, status: int = 200) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self._reads = reads
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", self._reads
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        text = scope["path"].encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    @property
    def paths(self) -> list[str]:
        return [scope["path"] for scope in self.scopes]


class MemoryTransport(asyncio.Transport):
    """Keeps what is written. With `reads=False` the client reads nothing of it."""

    def __init__(self, peer: str = "192.0.2.1") -> None:
        super().__init__({"peername": (peer, 5000), "sockname": ("127.0.0.1", 8000)})
        self.written = b""
        self.unread = 0
        self.reads = True
        self.closed = False
        self.aborted = False
        self.ended = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "write after write_eof"
        self.written += bytes(data)
        self.unread += 0 if self.reads else len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class Timer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ManualLoop:
    """Runs tasks on the running event loop, and timers only when the test moves the time."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, call)
        self.timers.append(timer)
        return timer

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in sorted(due, key=lambda timer: timer.at):
            if not timer.cancelled:
                timer.call()


@dataclass
class ServedConnection:
    """One connection to an application."""

    protocol: LimitedProtocol
    transport: MemoryTransport
    loop: ManualLoop
    parsed: list[int] = field(default_factory=list)
    """The sizes of the slices that the parser got."""

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)

    async def respond(self) -> None:
        """Let the application respond to what it has received."""
        while tasks := self.protocol.tasks:
            await asyncio.wait(set(tasks), timeout=10)
            await run_other_tasks()

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses."""
        lines = self.transport.written.split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]


class _CountingParser:
    def __init__(self, parser: Any, sizes: list[int]) -> None:
        self._parser = parser
        self._sizes = sizes

    def feed_data(self, data: bytes) -> None:
        self._sizes.append(len(data))
        self._parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


def connect(
    app: ASGIApp,
    *,
    peer: str = "192.0.2.1",
    connections: Connections | None = None,
    loop: ManualLoop | None = None,
) -> ServedConnection:
    """Open a connection to `app`."""
    state = {CONNECTIONS: Connections(100) if connections is None else connections}
    config = Config(app, lifespan="off", log_config=None, access_log=False)
    manual = loop or ManualLoop()
    protocol = LimitedProtocol(config, ServerState(), state, _loop=manual)  # type: ignore[arg-type]
    transport = MemoryTransport(peer)
    served = ServedConnection(protocol, transport, manual)
    parser: Any = _CountingParser(protocol.parser, served.parsed)
    protocol.parser = parser
    protocol.connection_made(transport)
    return served
