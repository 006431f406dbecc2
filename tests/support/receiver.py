"""Receivers on 127.0.0.1 for what the http target sends: one that answers, one that misbehaves."""

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

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived, body included."""

    method: str
    path: str
    """With the query, as it was on the wire."""
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Receiver:
    """An HTTP server that records every request and answers as it is told, 200 `ok` at first.

        async with Receiver() as receiver:
            receiver.answer_with(503, headers={"Retry-After": "7"})
            ... send something to f"{receiver.url}/hook" ...
            assert receiver.requests[0].json()["attempt"] == 1

    Requests are appended in order of arrival, before they are answered, and never removed.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[ReceivedRequest] = []
        self.cut_requests = 0
        """Requests whose sender went away before the answer was complete."""
        self.port = 0
        self._tls = tls
        self._arrived = asyncio.Condition()
        self._answer: Answer = _answer_of(200, "ok", {})
        self._answers_by_path: dict[str, Answer] = {}

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def answer_with(
        self,
        status: int = 200,
        *,
        body: bytes | str = "",
        headers: dict[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        """Answer so from now on; with `path`, requests for that path only."""
        self.answer_by(_answer_of(status, body, headers or {}), path=path)

    def answer_by(self, answer: Answer, *, path: str | None = None) -> None:
        """Answer by a function from now on; it may wait, stream or never end."""
        if path is None:
            self._answer = answer
        else:
            self._answers_by_path[path] = answer

    def never_answer(self) -> None:
        """Record requests from now on and leave them without an answer."""
        self.answer_by(_no_answer)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests have arrived in all."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def wait_for_cut_requests(self, count: int) -> None:
        """Wait until the senders of `count` requests have gone away in all."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: self.cut_requests >= count)

    async def __aenter__(self) -> Self:
        # A handler is cancelled when its sender goes away: that is how a cut request is seen.
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
        answer = self._answers_by_path.get(request.path, self._answer)
        try:
            return await answer(request)  # type: ignore[arg-type]
        except (asyncio.CancelledError, ConnectionError):
            self.cut_requests += 1
            await asyncio.shield(self._notify())
            raise

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()


def _answer_of(status: int, body: bytes | str, headers: dict[str, str]) -> Answer:
    content = body.encode() if isinstance(body, str) else body

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content, headers=headers)

    return answer


async def _no_answer(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


class RawReceiver:
    """A TCP server that runs a script on every connection, for answers no HTTP server gives.

    The script gets the connection after the head of a request was read; when it returns, the
    connection is closed.
    """

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.port = 0
        self._script = script
        self._running: set[asyncio.Task[None]] = set()

    @classmethod
    def answering(cls, answer: bytes) -> Self:
        """Sends these bytes and closes."""

        async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()

        return cls(script)

    @classmethod
    def resetting(cls, answer: bytes = b"") -> Self:
        """Sends these bytes and resets the connection."""

        async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()
            await run_other_tasks(10)  # the client reads: a reset discards what it has not read
            writer.transport.abort()

        return cls(script)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
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
        # The end of the test cancels; asyncio would log that as an error of this callback.
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends):
            try:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self._script(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()
