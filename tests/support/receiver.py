"""Receivers on 127.0.0.1 for the http target: a regular HTTP server, and one that misbehaves."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from tests.support.waiting import run_other_tasks

HOST = "127.0.0.1"
WAIT_SECONDS = 5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived, with its body."""

    method: str
    path: str
    """The path and the query, exactly as sent."""
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Receiver:
    """An HTTP server that records every request. It responds 200 `ok` until it is told otherwise.

        async with Receiver() as receiver:
            receiver.respond_with(503, headers={"Retry-After": "7"})
            ... send something to f"{receiver.url}/hook" ...
            assert receiver.requests[0].json()["attempt"] == 1

    Requests are appended in order of arrival, before the response, and never removed.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[ReceivedRequest] = []
        self.interrupted_requests = 0
        """The number of requests whose sender disconnected before the response was complete."""
        self.port = 0
        self._tls = tls
        self._arrived = asyncio.Condition()
        self._handler: Handler = _make_handler(200, "ok", {})
        self._handlers_by_path: dict[str, Handler] = {}

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def respond_with(
        self,
        status: int = 200,
        *,
        body: bytes | str = "",
        headers: dict[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        """Send this response from now on; with `path`, only to requests for that path."""
        self.respond_by(_make_handler(status, body, headers or {}), path=path)

    def respond_by(self, handler: Handler, *, path: str | None = None) -> None:
        """Respond by a function from now on; it may wait, stream or never end."""
        if path is None:
            self._handler = handler
        else:
            self._handlers_by_path[path] = handler

    def never_respond(self) -> None:
        """Record requests from now on without responding."""
        self.respond_by(_wait_forever)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests have arrived in total."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def wait_for_interrupted_requests(self, count: int) -> None:
        """Wait until the senders of `count` requests have disconnected in total."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: self.interrupted_requests >= count)

    async def __aenter__(self) -> Self:
        # aiohttp cancels a handler whose sender disconnects. `_handle` counts these cancellations.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        async with self._arrived:
            self.requests.append(
                ReceivedRequest(request.method, request.path_qs, request.headers, body)
            )
            self._arrived.notify_all()
        handler = self._handlers_by_path.get(request.path, self._handler)
        try:
            return await handler(request)  # type: ignore[arg-type]
        except (asyncio.CancelledError, ConnectionError):
            self.interrupted_requests += 1
            await asyncio.shield(self._notify())
            raise

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()


def _make_handler(status: int, body: bytes | str, headers: dict[str, str]) -> Handler:
    content = body.encode() if isinstance(body, str) else body

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content, headers=headers)

    return respond


async def _wait_forever(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


class RawReceiver:
    """A TCP server that runs a script for every connection, for responses that break HTTP.

    The script gets the connection after the head of a request has been read. The connection is
    closed when the script returns.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.port = 0
        self._script = script
        self._tls = tls
        self._running: set[asyncio.Task[None]] = set()

    @classmethod
    def send_and_close(cls, data: bytes) -> Self:
        """Create a receiver that sends `data` and closes the connection."""

        async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        return cls(script)

    @classmethod
    def send_and_reset(cls, data: bytes = b"") -> Self:
        """Create a receiver that sends `data` and resets the connection."""

        async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()
            await run_other_tasks(10)  # the client reads: a reset discards what it has not read
            writer.transport.abort()

        return cls(script)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self.connections += 1
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # `__aexit__` cancels this task. asyncio would log the cancellation as an error.
        expected = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*expected):
            try:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self._script(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()
