"""The http target against receivers that are slow, broken or hostile."""

import asyncio
import gzip
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import bson
import pytest
from aiohttp import web

from app.clock import SystemClock
from app.models.execution import AttemptOutcome, TargetResponse
from app.models.outcome import Failure, Outcome
from app.models.target import HttpMethod, HttpTargetSpec
from app.targets.http import HttpTarget
from app.targets.http_message import MAX_BODY_BYTES
from tests.integration.targets.specs import make_spec
from tests.support.clock import ManualClock
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.http_target import assert_fails, open_target
from tests.support.receiver import HOST, RawReceiver, Receiver
from tests.support.resolvers import FailingResolver
from tests.support.waiting import eventually, run_other_tasks

SHORT = make_delivery(timeout=timedelta(seconds=0.3))
KIBIBYTE = 1_024

BROKE = "the connection broke before the response was complete"
NOT_HTTP = "the response is not valid HTTP"


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with open_target(clock=SystemClock()) as target:
        yield target


def require_response(outcome: Outcome) -> TargetResponse:
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert outcome.response is not None
    return outcome.response


TIMED_OUT = Outcome(
    AttemptOutcome.TIMED_OUT, failure=Failure.TIMEOUT, error="no complete response within 0.3 s"
)


async def assert_times_out(target: HttpTarget, spec: HttpTargetSpec, delivery: Any = SHORT) -> None:
    """Assert that the delivery ends as a timeout, at most 1 s late in real time."""
    started = time.monotonic()
    outcome = await target.deliver(spec, delivery)
    assert time.monotonic() - started < delivery.timeout.total_seconds() + 1
    assert outcome == TIMED_OUT


async def never_end() -> None:
    await asyncio.Event().wait()


async def assert_ends_at_the_timeout(
    clock: ManualClock, delivering: "asyncio.Future[Outcome]"
) -> None:
    """Assert that the delivery ends when the clock reaches its timeout, and not before."""
    clock.advance(SHORT.timeout - timedelta(milliseconds=1))
    await run_other_tasks(10)
    assert not delivering.done()
    clock.advance(timedelta(milliseconds=1))
    async with asyncio.timeout(5):
        assert await delivering == TIMED_OUT


class TestDeadline:
    async def test_a_delivery_times_out_if_the_receiver_hangs(self, receiver: Receiver) -> None:
        receiver.never_respond()
        clock = ManualClock()
        async with open_target(clock=clock) as target:
            delivering = asyncio.ensure_future(target.deliver(make_spec(receiver), SHORT))
            await receiver.wait_for_requests(1)
            await assert_ends_at_the_timeout(clock, delivering)
        await receiver.wait_for_interrupted_requests(1)

    @pytest.mark.parametrize("rest", [b"", b"OK\r\n", b"OK\r\n\r\n"])
    async def test_a_delivery_times_out_if_the_receiver_sends_single_bytes(
        self, rest: bytes
    ) -> None:
        clock, may_send, sent = ManualClock(), asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 " + rest)
            while True:
                await may_send.acquire()
                writer.write(b"X")
                await writer.drain()
                sent.release()

        async with RawReceiver(drip) as receiver, open_target(clock=clock) as target:
            delivering = asyncio.ensure_future(target.deliver(make_spec(receiver), SHORT))
            for _ in range(3):
                may_send.release()
                await sent.acquire()
                await run_other_tasks(10)  # the target reads the byte
                assert not delivering.done()
                clock.advance(SHORT.timeout / 3)
            async with asyncio.timeout(5):
                assert await delivering == TIMED_OUT

    async def test_a_delivery_times_out_if_the_connection_is_not_accepted(
        self, target: HttpTarget
    ) -> None:
        with socket.create_server((HOST, 0), backlog=0) as server:
            address = server.getsockname()
            with socket.create_connection(address):  # fills the queue; later ones hang
                await assert_times_out(target, HttpTargetSpec(url=f"http://{HOST}:{address[1]}/"))

    async def test_a_delivery_times_out_if_the_tls_handshake_does_not_end(
        self, target: HttpTarget
    ) -> None:
        with socket.create_server((HOST, 0)) as server:
            url = f"https://{HOST}:{server.getsockname()[1]}/"
            await assert_times_out(target, HttpTargetSpec(url=url))

    async def test_a_delivery_times_out_if_the_name_does_not_resolve_in_time(self) -> None:
        clock, spec = ManualClock(), HttpTargetSpec(url="http://slow.test:8080/")
        async with open_target(clock=clock, resolver=FailingResolver(None)) as target:
            delivering = asyncio.ensure_future(target.deliver(spec, SHORT))
            await eventually(lambda: clock.timer_count == 2)  # of the attempt and of the lookup
            await assert_ends_at_the_timeout(clock, delivering)

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    async def test_a_delivery_times_out_if_the_receiver_does_not_read(
        self, target: HttpTarget
    ) -> None:
        async with RawReceiver(lambda *_: never_end()) as receiver:
            large = make_delivery(timeout=SHORT.timeout, parameters={"a": "x" * 20_000_000})
            await assert_times_out(target, make_spec(receiver), large)

    async def test_a_delivery_times_out_while_it_waits_for_a_free_connection(
        self, receiver: Receiver
    ) -> None:
        receiver.never_respond()
        clock = ManualClock()
        async with open_target(limit=1, clock=clock) as target:
            first = asyncio.ensure_future(target.deliver(make_spec(receiver), DELIVERY))
            await receiver.wait_for_requests(1)
            second = asyncio.ensure_future(target.deliver(make_spec(receiver), SHORT))
            # Of the two attempts, and of the check of the bytes that the connection has received.
            await eventually(lambda: clock.timer_count == 3)
            await assert_ends_at_the_timeout(clock, second)
            first.cancel()
            await asyncio.wait({first})
        assert len(receiver.requests) == 1


class TestSize:
    async def test_an_endless_body_is_read_up_to_the_limit(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        sent = 0

        async def flood(request: web.Request) -> web.StreamResponse:
            nonlocal sent
            streamed = web.StreamResponse()
            await streamed.prepare(request)
            while True:
                await streamed.write(b"x" * KIBIBYTE)
                sent += KIBIBYTE

        receiver.respond_by(flood)
        response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        assert (response.body, response.truncated) == ("x" * MAX_BODY_BYTES, True)
        await receiver.wait_for_interrupted_requests(1)
        assert sent < 50 * KIBIBYTE * KIBIBYTE  # the kernel buffers some of the body

    @pytest.mark.parametrize(("size", "truncated"), [(0, False), (65_536, False), (65_537, True)])
    async def test_a_body_is_truncated_only_above_the_limit(
        self, target: HttpTarget, receiver: Receiver, size: int, truncated: bool
    ) -> None:
        receiver.respond_with(body=b"x" * size)
        response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        assert (len(response.body), response.truncated) == (min(size, MAX_BODY_BYTES), truncated)

    async def test_a_gzip_bomb_is_not_decompressed(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        bomb = gzip.compress(bytes(50_000_000))
        receiver.respond_with(body=bomb, headers={"Content-Encoding": "gzip"})
        tracemalloc.start()
        response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert response.body.startswith("\x1f\ufffd")  # the magic bytes of gzip, not decompressed
        assert len(response.body.encode()) <= MAX_BODY_BYTES
        assert peak < 5_000_000

    @pytest.mark.parametrize(
        ("body", "text", "truncated"),
        [
            (b"a\xffb\x00c", "a\ufffdb\x00c", False),
            (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd", False),
            (b"x" * 65_533 + "😀".encode(), "x" * 65_533, True),
            (b"\xff" * 60_000, "\ufffd" * 21_845, True),
        ],
        ids=["not UTF-8", "surrogate", "truncated character", "grows"],
    )
    async def test_a_body_is_text_that_can_be_stored_and_stays_within_the_limit(
        self, target: HttpTarget, receiver: Receiver, body: bytes, text: str, truncated: bool
    ) -> None:
        receiver.respond_with(body=body)
        response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        assert response.body == text
        assert response.truncated is truncated
        bson.encode(response.model_dump())

    async def test_headers_are_kept_within_limits_and_in_storable_form(
        self, target: HttpTarget
    ) -> None:
        lines = [
            b"X-Long: " + b"a" * 5_000,
            b"X-Twice: 1",
            b"x-twice: 2",
            b"Set-Cookie: secret=1",
            b"Set-Cookie: \xff; ;;=;",
            b"$set: 1",
            b"a.b: 1",
            b"X-Bytes: \xff\xfe",
            *(b"X-%d: %d" % (number, number) for number in range(100)),
        ]
        data = b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\nok"
        async with RawReceiver.send_and_close(data) as receiver:
            response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        assert len(response.headers) == 50
        assert response.headers["x-long"] == "a" * 1_024
        assert response.headers["x-twice"] == "1, 2"
        assert response.headers["x-bytes"] == "\ufffd\ufffd"
        assert (response.headers["$set"], response.headers["a.b"]) == ("1", "1")
        assert "set-cookie" not in response.headers
        bson.encode(response.model_dump())

    async def test_many_large_headers_are_bounded_together(self, target: HttpTarget) -> None:
        lines = b"".join(b"X-%d: %s\r\n" % (number, b"\xff" * 1_000) for number in range(40))
        async with RawReceiver.send_and_close(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n") as receiver:
            response = require_response(await target.deliver(make_spec(receiver), DELIVERY))
        assert len(bson.encode(response.headers)) < 20_000


class TestBrokenResponses:
    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x00\xff\xfe",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"HTTP/1.1 99999999999999999999 OK\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-Huge: " + b"a" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 5_000 + b"\r\n",
            b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
        ids=range(13),
    )
    async def test_an_invalid_http_response_is_a_failure(
        self, target: HttpTarget, data: bytes
    ) -> None:
        async with RawReceiver.send_and_close(data) as receiver:
            outcome = await target.deliver(make_spec(receiver), SHORT)
        assert_fails(outcome, Failure.CONNECTION_ERROR, NOT_HTTP)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        ],
        ids=["nothing", "head", "length", "chunk"],
    )
    @pytest.mark.parametrize("how", [RawReceiver.send_and_close, RawReceiver.send_and_reset])
    @pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
    async def test_a_request_whose_response_breaks_off_is_not_repeated(
        self, target: HttpTarget, data: bytes, how: Any, method: str
    ) -> None:
        async with how(data) as receiver:
            outcome = await target.deliver(make_spec(receiver, method=HttpMethod(method)), DELIVERY)
            assert receiver.connections == 1
        assert_fails(outcome, Failure.CONNECTION_ERROR, BROKE)

    async def test_a_switch_of_protocols_is_a_failure(self, target: HttpTarget) -> None:
        head = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nxyz"
        async with RawReceiver.send_and_close(head) as receiver:
            outcome = await target.deliver(make_spec(receiver), SHORT)
        assert outcome.failure is Failure.STATUS
        assert outcome.error == "the target responded with status 101"

    async def test_no_attempt_fails_if_the_receiver_closes_after_each_response(
        self, target: HttpTarget
    ) -> None:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        async with RawReceiver.send_and_close(data) as receiver:
            for _ in range(20):
                require_response(await target.deliver(make_spec(receiver), DELIVERY))
            assert receiver.connections == 20
