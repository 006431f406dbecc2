"""The http target and responses whose parts contradict each other or come at an unusual time."""

import asyncio
import gzip

import pytest

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure
from app.targets.http import HttpTarget
from tests.integration.targets.specs import make_spec
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.http_target import assert_fails
from tests.support.receiver import RawReceiver

NOT_HTTP = "the response is not valid HTTP"
OK = b"HTTP/1.1 200 OK\r\n"


def send_and_wait(data: bytes) -> RawReceiver:
    """Create a receiver that sends `data`, reads nothing more, and keeps the connection open."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.Event().wait()

    return RawReceiver(script)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok and more", "ok"),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", None),
        (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", None),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n2\r\nok\r\n0\r\n\r\n", None),
        (OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\nok", None),
        (OK + b"Content-Length: +2\r\n\r\nok", None),
        (OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 3\r\n\r\nbad", "ok"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", ""),
        (b"<html>the answer of HTTP/0.9</html>", None),
        (OK + b"X: " + b"a" * 65_536 + b"\r\n\r\n", None),
        (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n", None),
    ],
    ids=range(11),
)
async def test_a_response_that_contradicts_itself_ends_the_attempt_immediately(
    target: HttpTarget, data: bytes, body: str | None
) -> None:
    # The clock of the target stands still, so the attempt does not time out.
    async with send_and_wait(data) as receiver, asyncio.timeout(5):
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    if body is None:
        assert_fails(outcome, Failure.CONNECTION_ERROR, NOT_HTTP)
    else:
        assert outcome.response is not None
        assert (outcome.outcome, outcome.response.body) == (AttemptOutcome.SUCCEEDED, body)


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_that_does_not_exist_is_a_failure(target: HttpTarget, status: int) -> None:
    async with send_and_wait(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert outcome.failure is Failure.STATUS
    assert outcome.error == f"the target responded with status {status}"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP, gzip"])
async def test_a_body_that_the_receiver_compressed_unasked_is_not_decompressed(
    target: HttpTarget, encoding: str
) -> None:
    body = gzip.compress(b"secret" * 100)
    head = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (
        encoding.encode(),
        len(body),
    )
    async with send_and_wait(head + body) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert outcome.response is not None
    assert outcome.response.body == body.decode("utf-8", "replace")


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_response_before_the_request_body_was_read_ends_the_attempt(
    target: HttpTarget,
) -> None:
    large = make_delivery(parameters={"a": "x" * 20_000_000})
    async with (
        send_and_wait(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno") as receiver,
        asyncio.timeout(5),
    ):
        outcome = await target.deliver(make_spec(receiver), large)
    assert outcome.response is not None
    assert (outcome.response.status, outcome.response.body) == (413, "no")
