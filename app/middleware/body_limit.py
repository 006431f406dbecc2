"""Limits of the size and the arrival time of request bodies, with or without Content-Length."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clock import SystemClock
from app.deadline import Deadline

RECEIVE_SECONDS = 30.0


class BodyLimit:
    """Rejects a body that is over the limit (413) or takes longer than 30 s to arrive (408).

    The errors are raised where the body is read, so that the usual error handlers respond.
    `limit_of` returns the largest number of bytes that a request's body may have.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_of: Callable[[Scope], Awaitable[int]],
        receive_seconds: float = RECEIVE_SECONDS,
    ) -> None:
        self._app = app
        self._limit_of = limit_of
        self._receive_seconds = receive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            limit = await self._limit_of(scope)
            body = _Body(receive, limit, _stated_length(scope), self._receive_seconds)
            await self._app(scope, body.receive, send)
        else:
            await self._app(scope, receive, send)


class _Body:
    """The body of one request while it arrives."""

    def __init__(self, receive: Receive, limit: int, stated: int, seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._stated = stated
        self._seconds = seconds
        self._deadline: Deadline | None = None
        self._size = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._stated > self._limit:
            raise self._too_large()
        message = await self._receive_in_time()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._size > self._limit:
                raise self._too_large()
        return message

    async def _receive_in_time(self) -> Message:
        if self._deadline is None:
            monotonic = SystemClock().monotonic
            self._deadline = Deadline(monotonic() + self._seconds, monotonic)
        try:
            async with asyncio.timeout(self._deadline.get_remaining_seconds()):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, "The body took too long to arrive.", {"Connection": "close"}
            ) from None

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413, f"The body may have at most {self._limit} bytes.", {"Connection": "close"}
        )


def _stated_length(scope: Scope) -> int:
    """The Content-Length, or 0 if it is invalid or has 20 or more digits, which exceed 64 bits.

    The received bytes are limited in every case.
    """
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
