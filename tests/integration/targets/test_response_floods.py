"""The http target against receivers that send bytes without content, without end.

These tests count the bytes that the parser gets, in all and in one turn of the event loop.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import aiohttp.http_parser
import pytest
from aiohttp import client_proto

from app.clock import SystemClock
from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.targets.http import HttpTarget
from app.targets.http_message import MAX_BODY_BYTES
from app.targets.protocol import (
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    MAX_INTERIM_RESPONSES,
    TOO_MUCH_BEFORE_THE_HEAD,
    TOO_MUCH_FRAMING,
    TURN_BYTES,
    LimitedConnector,
)
from tests.integration.targets.specs import make_spec
from tests.support.certificates import make_self_signed_context, make_trusting_context
from tests.support.clock import ManualClock
from tests.support.deliveries import DELIVERY
from tests.support.floods import BEFORE_THE_HEAD, CHUNKED, IN_THE_BODY, INVALID, Flood
from tests.support.http_target import assert_fails, open_target
from tests.support.receiver import RawReceiver
from tests.support.waiting import run_other_tasks

NOT_HTTP = "the response is not valid HTTP"
FLOODS = BEFORE_THE_HEAD | IN_THE_BODY | INVALID

MAX_PARSED = MAX_HEAD_BYTES + MAX_FRAMING_BYTES + MAX_BODY_BYTES + 2 * TURN_BYTES


class Parsed:
    """Counts the bytes that aiohttp's protocol gets to parse."""

    def __init__(self) -> None:
        self.total = 0
        self.most_in_one_turn = 0
        self._in_this_turn = 0

    def add(self, size: int) -> None:
        self.total += size
        self._in_this_turn += size
        self.most_in_one_turn = max(self.most_in_one_turn, self._in_this_turn)

    async def count_turns(self) -> None:
        """The neighbour: a task that always wants the next turn."""
        while True:
            self._in_this_turn = 0
            await run_other_tasks()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    parsed, parse = Parsed(), client_proto.ResponseHandler.data_received

    def count_and_parse(self: client_proto.ResponseHandler, data: bytes) -> None:
        parsed.add(len(data))
        parse(self, data)

    monkeypatch.setattr(client_proto.ResponseHandler, "data_received", count_and_parse)
    return parsed


@contextmanager
def counting_turns(parsed: Parsed) -> Iterator[None]:
    neighbour = asyncio.ensure_future(parsed.count_turns())
    try:
        yield
    finally:
        neighbour.cancel()


def flood(flood: Flood, *, tls: ssl.SSLContext | None = None) -> RawReceiver:
    """Create a receiver that sends the flood until the connection breaks."""
    block = flood.make_block()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(flood.start)
        while True:
            writer.write(block)
            await writer.drain()
            await run_other_tasks()

    return RawReceiver(send, tls=tls)


def send_in_parts(*parts: bytes) -> RawReceiver:
    """Create a receiver that sends each part after the other one has been read, then waits."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await run_other_tasks(10)
        await asyncio.Event().wait()

    return RawReceiver(send)


async def deliver_counted(target: HttpTarget, receiver: RawReceiver, parsed: Parsed) -> Outcome:
    async with receiver:
        with counting_turns(parsed):
            return await target.deliver(make_spec(receiver), DELIVERY)


@asynccontextmanager
async def open_tls_target(folder: Path) -> AsyncIterator[HttpTarget]:
    """Open a target that trusts the certificate in the folder."""
    connector = LimitedConnector(ssl=make_trusting_context(folder), force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield HttpTarget(session=session, clock=SystemClock(), version="1")


def get_error(name: str) -> str:
    """Return the error of an attempt whose receiver sends this flood."""
    match name:
        # The parser itself finds an error in the second repetition.
        case "empty folded lines" | "empty folded trailers" | "the body of an interim response":
            return NOT_HTTP
        case _ if name in INVALID:
            return NOT_HTTP
        case _:
            return TOO_MUCH_BEFORE_THE_HEAD if name in BEFORE_THE_HEAD else TOO_MUCH_FRAMING


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_fails_the_attempt_after_a_bounded_number_of_bytes(
    name: str, target: HttpTarget, parsed: Parsed
) -> None:
    outcome = await deliver_counted(target, flood(FLOODS[name]), parsed)
    assert_fails(outcome, Failure.CONNECTION_ERROR, get_error(name))
    assert parsed.total <= MAX_PARSED
    assert parsed.most_in_one_turn <= TURN_BYTES


@pytest.mark.parametrize("name", BEFORE_THE_HEAD | IN_THE_BODY)
async def test_a_flood_over_tls_fails_the_attempt_after_a_bounded_number_of_bytes(
    name: str, parsed: Parsed, tmp_path: Path
) -> None:
    receiver = flood(FLOODS[name], tls=make_self_signed_context(tmp_path))
    async with open_tls_target(tmp_path) as target:
        outcome = await deliver_counted(target, receiver, parsed)
    assert_fails(outcome, Failure.CONNECTION_ERROR, get_error(name))
    assert parsed.total <= MAX_PARSED
    assert parsed.most_in_one_turn <= TURN_BYTES


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_bounded_with_the_parser_in_python_too(
    name: str, target: HttpTarget, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp uses it where its extension in C is not installed."""
    parser = aiohttp.http_parser.HttpResponseParserPy
    monkeypatch.setattr(client_proto, "HttpResponseParser", parser)
    outcome = await deliver_counted(target, flood(FLOODS[name]), parsed)
    assert (outcome.outcome, outcome.failure) == (AttemptOutcome.FAILED, Failure.CONNECTION_ERROR)
    assert parsed.total <= MAX_PARSED
    assert parsed.most_in_one_turn <= TURN_BYTES


async def test_a_flood_of_content_is_parsed_up_to_the_limit_and_is_a_truncated_success(
    target: HttpTarget, parsed: Parsed
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n"
    outcome = await deliver_counted(target, flood(Flood(head, b"x")), parsed)
    assert outcome.response is not None
    assert (outcome.response.truncated, len(outcome.response.body)) == (True, MAX_BODY_BYTES)
    assert parsed.total <= MAX_BODY_BYTES + 2 * TURN_BYTES
    assert parsed.most_in_one_turn <= TURN_BYTES


@pytest.mark.parametrize("over", [False, True])
async def test_only_so_many_interim_responses_are_accepted(target: HttpTarget, over: bool) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    data = interim * (MAX_INTERIM_RESPONSES + over) + b"HTTP/1.1 204 No Content\r\n\r\n"
    async with send_in_parts(*(data[at : at + 40] for at in range(0, len(data), 40))) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    if over:
        assert_fails(outcome, Failure.CONNECTION_ERROR, TOO_MUCH_BEFORE_THE_HEAD)
    else:
        assert outcome.outcome is AttemptOutcome.SUCCEEDED


def make_chunks(content: bytes, size: int) -> bytes:
    """Return the content in chunks of `size` bytes."""
    parts = (content[at : at + size] for at in range(0, len(content), size))
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("length", "size"),
    [(2_000, 1), (13_000, 1), (MAX_BODY_BYTES, 6), (MAX_BODY_BYTES, 20), (MAX_BODY_BYTES, 8_192)],
)
async def test_a_body_in_small_chunks_within_the_limit_is_complete(
    target: HttpTarget, length: int, size: int
) -> None:
    async with send_in_parts(make_chunks(b"x" * length, size)) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert outcome.response is not None
    assert (outcome.response.body, outcome.response.truncated) == ("x" * length, False)


@pytest.mark.parametrize(("length", "size"), [(15_000, 1), (MAX_BODY_BYTES, 4)])
async def test_a_body_in_chunks_with_too_much_framing_fails(
    target: HttpTarget, length: int, size: int
) -> None:
    async with send_in_parts(make_chunks(b"x" * length, size)) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert_fails(outcome, Failure.CONNECTION_ERROR, TOO_MUCH_FRAMING)


async def test_the_bytes_of_each_attempt_are_counted_from_zero(parsed: Parsed) -> None:
    """The session of the service does not reuse connections yet. This one does."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(make_chunks(b"x" * 8_000, 1))
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")

    async with (
        RawReceiver(respond) as receiver,
        aiohttp.ClientSession(connector=LimitedConnector()) as session,
    ):
        for _ in range(5):
            async with session.get(receiver.url) as response:
                assert len(await response.read()) == 8_000
        assert receiver.connections == 1
    assert parsed.total > 2 * MAX_FRAMING_BYTES


@pytest.mark.parametrize("rest", [b"zz\r\n", b"-1\r\n", b"0\r\nno colon\r\n\r\n"])
async def test_an_error_in_a_later_part_of_the_body_fails_the_attempt_before_its_timeout(
    rest: bytes,
) -> None:
    # The clock stands still, so the attempt would never time out.
    async with (
        open_target(clock=ManualClock()) as target,
        send_in_parts(CHUNKED + b"1\r\nx\r\n", rest) as receiver,
        asyncio.timeout(5),
    ):
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert_fails(outcome, Failure.CONNECTION_ERROR, NOT_HTTP)
