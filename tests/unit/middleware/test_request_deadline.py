"""The time limit of a request: when it ends a request, and what does not count."""

import asyncio
from contextlib import suppress

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.deadline import find_deadline
from app.errors import UnavailableError
from app.middleware.request_deadline import CALL_SECONDS, SECONDS_TO_RESPOND, RequestDeadline

PROMISED_SECONDS = 10
SHORT = 0.02
RESPONSE = PlainTextResponse("done")


async def respond(_: Request, error: Exception) -> Response:
    assert isinstance(error, UnavailableError)
    return PlainTextResponse("too late", 503)


async def request_through(app: ASGIApp, receive: Receive, *, seconds: float = SHORT) -> list[int]:
    """Return the statuses of the responses that an application behind the deadline sends."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    deadline = RequestDeadline(app, respond=respond, call_seconds=seconds, seconds_to_respond=0)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await deadline(scope, receive, send)
    return statuses


async def receive_empty() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def wait_longer_than_the_deadline() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(SHORT * 3):
            await asyncio.Event().wait()


def test_a_response_comes_within_the_promised_time() -> None:
    assert CALL_SECONDS + SECONDS_TO_RESPOND < PROMISED_SECONDS


async def test_a_request_without_a_response_in_time_is_ended_with_a_503() -> None:
    cleaned_up = False

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal cleaned_up
        try:
            await receive()
            await asyncio.Event().wait()
        finally:
            cleaned_up = True

    assert await request_through(hang, receive_empty) == [503]
    assert cleaned_up


async def test_a_response_that_has_begun_is_not_cut() -> None:
    async def respond_slowly(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await wait_longer_than_the_deadline()
        await send({"type": "http.response.body", "body": b"end"})

    assert await request_through(respond_slowly, receive_empty) == [200]


async def test_the_time_in_which_the_body_arrives_does_not_count() -> None:
    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        deadline = find_deadline()
        assert deadline is not None
        assert deadline.get_remaining_seconds() > 0
        await RESPONSE(scope, receive, send)

    async def receive_slowly() -> Message:
        await wait_longer_than_the_deadline()
        chunks.pop()
        return {"type": "http.request", "body": b"x", "more_body": bool(chunks)}

    chunks = [1, 2]
    assert await request_through(read, receive_slowly) == [200]


async def test_the_deadline_counts_again_after_the_body_has_arrived() -> None:
    async def read_and_hang(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()  # waits for the client to disconnect

    async def receive_once() -> Message:
        if received:
            await asyncio.Event().wait()
        received.append(True)
        return await receive_empty()

    received: list[bool] = []
    assert await request_through(read_and_hang, receive_once) == [503]


async def test_the_calls_of_a_request_know_its_deadline_and_later_ones_do_not() -> None:
    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        assert find_deadline() is not None
        await RESPONSE(scope, receive, send)

    assert await request_through(check, receive_empty) == [200]
    assert find_deadline() is None


async def test_a_timeout_of_the_application_is_not_taken_for_the_deadline() -> None:
    async def time_out(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await request_through(time_out, receive_empty, seconds=30)
