"""The time limit of a request, from the arrival of its body to the start of its response."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clock import SystemClock
from app.deadline import Deadline, set_deadline
from app.errors import UnavailableError

CALL_SECONDS = 8.5
"""The calls of a request to the database end within this time, also if they are many."""

SECONDS_TO_RESPOND = 1.0
"""The additional time to respond. Both together stay below 10 s, the time that is promised."""


class RequestDeadline:
    """Ends a request that has no response in time, with a 503.

    The database calls end first, by an UnavailableError, so that a request ends as in every outage.
    A request that is still running one second later is cancelled. The time in which the body
    arrives does not count: it depends on the client and has a limit of its own. A response that has
    begun is not cut. `respond` returns the response to an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        respond: Callable[[Request, Exception], Awaitable[Response]],
        call_seconds: float = CALL_SECONDS,
        seconds_to_respond: float = SECONDS_TO_RESPOND,
    ) -> None:
        self._app = app
        self._respond = respond
        self._call_seconds = call_seconds
        self._seconds_to_respond = seconds_to_respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        monotonic = SystemClock().monotonic
        deadline = Deadline(monotonic() + self._call_seconds, monotonic)
        exchange = _Exchange(receive, send, deadline, self._seconds_to_respond)
        try:
            async with exchange.limit:
                with set_deadline(deadline):
                    await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if exchange.response_begun or not exchange.limit.expired():
                raise
            error = UnavailableError("The service could not complete the request in time.")
            response = await self._respond(Request(scope), error)
            await response(scope, receive, send)


class _Exchange:
    """One request and its response."""

    def __init__(
        self, receive: Receive, send: Send, deadline: Deadline, seconds_to_respond: float
    ) -> None:
        self._receive = receive
        self._send = send
        self._deadline = deadline
        self._seconds_to_respond = seconds_to_respond
        self._complete = False
        self.limit = self._make_limit()
        self.response_begun = False

    async def receive(self) -> Message:
        if self._complete or self.response_begun or self.limit.expired():
            return await self._receive()
        remaining = self._deadline.get_remaining_seconds()
        self.limit.reschedule(None)
        try:
            message = await self._receive()
        finally:
            self._deadline.at = self._deadline.monotonic() + remaining
            self.limit.reschedule(self._make_limit().when())
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response_begun = True
            if not self.limit.expired():
                self.limit.reschedule(None)
        await self._send(message)

    def _make_limit(self) -> asyncio.Timeout:
        return asyncio.timeout(self._deadline.get_remaining_seconds() + self._seconds_to_respond)
