"""The limits of request bodies: their size and the time to receive them."""

import asyncio
from contextlib import suppress

import pytest
from fastapi import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app.middleware.body_limit import BodyLimit

LIMIT = 10


async def limit_of(_: Scope) -> int:
    return LIMIT


async def get_large_limit(_: Scope) -> int:
    return 1_000_000


async def read_through(
    chunks: list[bytes], *, length: str | None = None, seconds: float = 30
) -> bytes:
    """Return the body that an application behind the limit reads."""
    body = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal body
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]

    async def receive() -> Message:
        if not unread:
            await asyncio.Event().wait()
        chunk = unread.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(_: Message) -> None:
        raise AssertionError

    unread = list(chunks)
    headers = [] if length is None else [(b"content-length", length.encode())]
    limit = BodyLimit(app, limit_of=limit_of, receive_seconds=seconds)
    await limit({"type": "http", "headers": headers}, receive, send)
    return body


async def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert await read_through([b"12345", b"67890", b""]) == b"1234567890"


@pytest.mark.parametrize(
    ("chunks", "length"),
    [
        ([b"x" * 11, b""], None),
        ([b"x"] * 11 + [b""], None),
        ([b"x"], "11"),
        ([b"x" * 11, b""], "5"),
        ([b"x" * 11, b""], "-1"),
        ([b"x" * 11, b""], "many"),
        ([b"x" * 11, b""], "9" * 5_000),
    ],
)
async def test_a_larger_body_raises_413(chunks: list[bytes], length: str | None) -> None:
    with pytest.raises(HTTPException) as error:
        await read_through(chunks, length=length)
    assert error.value.status_code == 413


async def test_a_body_that_does_not_arrive_in_time_raises_408() -> None:
    with pytest.raises(HTTPException) as error:
        await read_through([b"x", b"x"], seconds=0.02)
    assert error.value.status_code == 408


async def test_a_body_whose_bytes_arrive_one_by_one_meets_the_time_limit() -> None:
    """Each byte comes in time, but the limit is for the whole body."""
    received = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    async def receive() -> Message:
        nonlocal received
        received += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        return {"type": "http.request", "body": b"x", "more_body": received < 500}

    async def send(_: Message) -> None:
        raise AssertionError

    limit = BodyLimit(app, limit_of=get_large_limit, receive_seconds=0.1)
    with pytest.raises(HTTPException) as error:
        await limit({"type": "http", "headers": []}, receive, send)
    assert error.value.status_code == 408
    assert received < 50


async def test_waiting_for_the_client_to_disconnect_has_no_time_limit() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with asyncio.timeout(0.05):
            await receive()

    async def receive() -> Message:
        if received:
            await asyncio.Event().wait()
        received.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        raise AssertionError

    received: list[bool] = []
    limit = BodyLimit(app, limit_of=limit_of, receive_seconds=0.01)
    with pytest.raises(TimeoutError):
        await limit({"type": "http", "headers": []}, receive, send)
