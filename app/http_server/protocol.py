"""uvicorn's HTTP protocol, with limits that hold before the application sees a request.

They limit the headers, the time to send them, the idle time, the time in which a client reads
nothing of a response, the number of connections, and the bytes that wait in them.
"""

import asyncio
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http_server.connections import CONNECTIONS, Connections
from app.http_server.rejections import MALFORMED, NO_ROOM, TOO_SLOW, Rejection
from app.http_server.request_limits import RejectedError, RequestLimits
from app.http_server.timers import STALL_SECONDS, StallTimer, Timer

HEAD_SECONDS = 10.0
"""From the connect, or from the first byte of a later request, to the end of the headers."""

IDLE_SECONDS = 75.0
"""Between a response and the next request."""

LINGER_SECONDS = 5.0
"""After a rejection, received bytes are ignored for this time: a reset of the connection would make
the client lose the response."""

MAX_IGNORED_BYTES = 1_048_576
"""The most that is received and ignored if the response came before the end of the request."""

HEALTH_PATHS = frozenset({"/ping", "/health", "/health/live", "/health/ready"})
"""Requests for these paths wait in a line of their own, which has every second turn (see
`LoopTurns`)."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Received bytes go to the parser in slices (see `RequestLimits`). The states of a connection:

    - It waits for a request, or receives one.
    - It answers a complete request. The requests that follow are parsed after the response.
    - It ignores the rest of a request, because the response came first (`_ignored_bytes`).
    - It rejects a request (`_rejection`), after the responses to the requests before. Nothing more
      is parsed.
    - It closes when the client has read the last response.

    It may be dropped for a new connection, except while it answers a complete request and the
    client reads what is sent. It may be dropped at any time if too many bytes wait in memory.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if isinstance(self.app, ProxyHeadersMiddleware):  # TRUSTED_PROXIES replaces it
            self.app = self.app.app
        self.ws_protocol_class = None  # the service has no WebSockets
        self._open_connections: Connections = app_state[CONNECTIONS]
        self._limits = RequestLimits()
        self._unparsed = b""
        self._body_bytes = 0
        self._ignored_bytes: int | None = None
        self._rejection: Rejection | None = None
        self._timer = Timer(self.loop)

    # --- The connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self._stall_timer = StallTimer(self.loop, transport)
        if self._open_connections.add(self, self._peer):
            self._limit_head()
        else:
            transport.write(NO_ROOM.encode())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.remove(self)
        self._timer.cancel()
        self._stall_timer.stop()
        self._unparsed = b""
        super().connection_lost(exc)
        if self.cycle is not None:  # it may wait long for its turn or for the database
            self.cycle.body = bytearray()

    def drop(self) -> None:
        """Close the connection at once, without a response."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer.start()
        self._open_connections.set_unread(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall_timer.stop()
        self._open_connections.set_unread(self, 0)

    # --- Received bytes ---

    def data_received(self, data: bytes) -> None:
        if self._ignored_bytes is not None:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > MAX_IGNORED_BYTES:
                self.transport.abort()
                return
        if self._rejection is None:
            self._unparsed = self._unparsed + data if self._unparsed else data
            self._parse()

    def _parse(self) -> None:
        data, start = self._unparsed, 0
        while start < len(data) and not self._is_answering() and not self._is_closing():
            if self._limits.in_head and not self._timer.has_planned(self._end_head):
                self._limit_head()
            start += self._feed(data[start : self._limits.find_end_of_slice(data, start)])
        self._unparsed = b"" if self._is_closing() else data[start:]
        if self._unparsed:
            self.flow.pause_reading()
        self._note_received()

    def _note_received(self) -> None:
        """Note the bytes that wait: those of an incomplete or unanswered request, and of others."""
        self._open_connections.set_received(self, self._body_bytes + len(self._unparsed))

    def _feed(self, piece: bytes) -> int:
        """Parse a slice, and return how many of its bytes were parsed."""
        limits, parsed = self._limits, len(piece)
        in_head = limits.in_head
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            parsed = upgrade.args[0]  # no upgrade is supported; what follows is the next request
            if parsed == 0:
                self._reject(MALFORMED)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._reject(cause.rejection if isinstance(cause, RejectedError) else MALFORMED)
        else:
            if self._limits is limits and limits.in_head == in_head:
                self._count(piece)
        return parsed

    def _count(self, piece: bytes) -> None:
        try:
            if self._limits.in_head:
                self._limits.count_head(piece)
            else:
                self._limits.count_slice(len(piece))
        except RejectedError as error:
            self._reject(error.rejection)

    # --- What the parser finds ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._limits.count_field(name)
        if self._limits.in_head:  # a trailer must not become a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version, upgrades = self.parser.get_http_version(), self.parser.should_upgrade()
        self._limits.end_head(self.headers, version, asks_for_upgrade=upgrades)
        self._timer.cancel()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._limits.count_data(len(body))
        super().on_body(body)
        if not self.cycle.response_complete:
            self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._limits = RequestLimits()
        if self._ignored_bytes is None:
            self._open_connections.set_busy(self)
        else:
            self._ignored_bytes = None
            self._wait_for_request()

    # --- Responses ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        def begin() -> bool:
            if cycle.disconnected:
                return False
            super(LimitedProtocol, self)._start_asgi_task(cycle, app)
            return True

        client = self._open_connections.find_client(self._peer, cycle.scope["headers"])
        is_health_check = cycle.scope["path"] in HEALTH_PATHS
        self._open_connections.turns.start(client, begin, is_health_check=is_health_check)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn has just started its own keep-alive timer
        self._body_bytes = 0
        self._note_received()
        if not self.cycle.response_complete:  # a pipelined request follows
            return
        self._open_connections.set_waiting(self)
        if self.transport.is_closing():
            self._limit_rest(STALL_SECONDS)
        elif self._rejection is not None:
            self._send_rejection(self._rejection)
        elif not self._limits.in_head:
            self._ignored_bytes = 0
            self._timer.plan(HEAD_SECONDS, self.transport.abort)
        else:
            self._wait_for_request()
            self._parse()

    def _reject(self, rejection: Rejection) -> None:
        """Respond and close, after the responses to the requests before. Nothing more is parsed."""
        self._rejection = rejection
        if not self._is_answering():
            self._send_rejection(rejection)

    def _send_rejection(self, rejection: Rejection) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or self.pipeline:  # it would look like a part of a response
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._ignored_bytes = 0
        self._open_connections.set_waiting(self)
        self._timer.plan(LINGER_SECONDS, self.transport.abort)
        self.flow.resume_reading()
        self.transport.write(rejection.encode())
        self.transport.write_eof()

    # --- Limits of time ---

    def _limit_head(self) -> None:
        self._timer.plan(HEAD_SECONDS, self._end_head)

    def _end_head(self) -> None:
        if self._limits.head_bytes == 0:
            self.transport.abort()
        else:
            self._reject(TOO_SLOW)

    def _wait_for_request(self) -> None:
        self._open_connections.set_waiting(self)
        self._limit_rest(IDLE_SECONDS)

    def _limit_rest(self, seconds: float) -> None:
        """Close the connection after this time, or later if the client still reads a response."""

        def end() -> None:
            if self._stall_timer.is_running:
                self._limit_rest(seconds)
            else:
                self.transport.abort()

        self._timer.plan(seconds, end)

    # --- States ---

    def _is_answering(self) -> bool:
        """Whether the last request is complete and its response is not."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _is_closing(self) -> bool:
        return self._rejection is not None or self.transport.is_closing()
