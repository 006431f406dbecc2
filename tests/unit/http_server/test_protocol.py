"""The limits of one connection, and that everything within them works as before."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.http_server.connections import Connections
from app.http_server.protocol import (
    HEAD_SECONDS,
    IDLE_SECONDS,
    LINGER_SECONDS,
    MAX_IGNORED_BYTES,
)
from app.http_server.request_limits import MAX_FIELDS, MAX_FRAMING_BYTES, MAX_HEAD_BYTES
from app.http_server.timers import MIN_READ_BYTES, STALL_SECONDS
from app.response_headers import SECURITY_HEADERS
from tests.support.http_protocol import GET, Application, ServedConnection, connect
from tests.support.waiting import run_other_tasks

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
async def connection(app: Application) -> ServedConnection:
    return connect(app)


def make_head(size: int) -> bytes:
    """A request without a body whose head has this size."""
    start, end = b"GET / HTTP/1.1\r\nHost: a\r\nX-Filler: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("piece", [1_000_000, 65_536, 4_096, 100])
async def test_the_parser_gets_at_most_32_kb_of_a_head(
    connection: ServedConnection, app: Application, piece: int
) -> None:
    for part in in_pieces(make_head(1_000_000), piece):
        connection.send(part)
    assert connection.statuses == [431]
    assert sum(connection.parsed) == MAX_HEAD_BYTES
    assert app.scopes == []
    assert connection.transport.ended


@pytest.mark.parametrize("piece", [100_000, 4_096, 7])
async def test_a_head_of_32_kb_is_accepted_on_each_request_of_a_connection(
    connection: ServedConnection, app: Application, piece: int
) -> None:
    for _ in range(3):
        for part in in_pieces(make_head(MAX_HEAD_BYTES), piece):
            connection.send(part)
        await connection.respond()
    assert connection.statuses == [200, 200, 200]
    connection.send(make_head(MAX_HEAD_BYTES + 1))
    assert connection.statuses[-1] == 431


@pytest.mark.parametrize(
    ("start", "filler"), [(b"", b"\r\n"), (b"", b"\n"), (b"GET / HTTP/1.1\r\nHost:", b" ")]
)
async def test_bytes_that_are_in_no_header_count_too(
    connection: ServedConnection, start: bytes, filler: bytes
) -> None:
    connection.send(start + filler * 200_000)
    assert connection.statuses in ([400], [431])
    assert sum(connection.parsed) <= MAX_HEAD_BYTES


async def test_a_request_has_at_most_100_fields(
    connection: ServedConnection, app: Application
) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_FIELDS - 1))
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    connection.send(start + fields + b"\r\n")
    await connection.respond()
    assert connection.statuses == [200]
    connection.send(start + fields + b"X-100: 1\r\n\r\n")
    assert connection.statuses == [200, 431]


async def test_trailers_are_limited_and_do_not_become_headers(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(CHUNKED + b"1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n")
    await connection.respond()
    assert connection.statuses == [200]
    assert b"x-trailer" not in dict(app.scopes[0]["headers"])
    connection.send(CHUNKED + b"1\r\na\r\n0\r\n" + b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n")
    await connection.respond()
    assert connection.statuses == [200, 431]


@pytest.mark.parametrize("start", [b"5;a=", b"1\r\na\r\n0\r\nX-Trailer: ", b"0" * 10])
async def test_framing_without_data_is_limited(connection: ServedConnection, start: bytes) -> None:
    connection.send(CHUNKED + start + b"0" * 1_000_000)
    await connection.respond()
    assert connection.statuses == [400]
    assert sum(connection.parsed) <= len(CHUNKED) + MAX_FRAMING_BYTES + 1_024


async def test_a_body_of_many_small_chunks_is_accepted(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
    await connection.respond()
    assert connection.statuses == [200]
    assert app.bodies == [b"a" * 50_000]


@pytest.mark.parametrize("piece", [10_000, 33, 1])
async def test_pipelined_requests_are_answered_in_order(
    connection: ServedConnection, app: Application, piece: int
) -> None:
    requests = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        b"\r\nGET /5 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
        b"GET /6 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    for part in in_pieces(requests, piece):
        connection.send(part)
        await run_other_tasks(5)
    await connection.respond()
    assert app.paths == ["/1", "/2", "/3", "/4", "/5", "/6"]
    assert app.bodies == [b"", b"hello", b"abc", b"", b"", b""]
    assert connection.statuses == [200] * 6
    assert connection.transport.closed


@pytest.mark.parametrize("piece", [10_000, 7])
@pytest.mark.parametrize(
    "start",
    [
        b"POST /token HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        b"POST /token HTTP/1.1\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\n",
        b"CONNECT /ping HTTP/1.1\r\n",
    ],
)
@pytest.mark.parametrize(
    "rest",
    [
        b"Host: a\r\nContent-Length: %d\r\n\r\n%b" % (len(GET), GET),
        b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET),
    ],
)
async def test_a_request_for_an_upgrade_may_have_no_body(
    connection: ServedConnection, app: Application, start: bytes, rest: bytes, piece: int
) -> None:
    for part in in_pieces(start + rest + GET, piece):
        connection.send(part)
        await run_other_tasks(5)
    await connection.respond()
    assert connection.statuses == [400]
    assert app.scopes == []


@pytest.mark.parametrize("line", [b"GET /", b"GET / HTTP/0.9", b"GET / HTTP/2.0"])
async def test_a_request_of_another_version_than_http_1_is_rejected(
    connection: ServedConnection, app: Application, line: bytes
) -> None:
    connection.send(line + b"\r\nHost: a\r\n\r\n")
    await connection.respond()
    assert connection.statuses == [400]
    assert app.scopes == []


async def test_pipelined_requests_wait_unparsed(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(GET * 1_000)
    assert sum(connection.parsed) == len(GET)
    assert not connection.transport.reading
    await connection.respond()
    assert len(app.scopes) == 1_000
    assert connection.transport.reading


async def test_a_wrong_request_is_rejected_after_the_responses_before(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(GET + b"nonsense\r\n\r\n")
    assert connection.statuses == []
    await connection.respond()
    assert connection.statuses == [200, 400]


async def test_a_wrong_chunk_ends_the_request(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(CHUNKED + b"nonsense\r\n")
    await connection.respond()
    assert connection.statuses == [400]
    assert app.bodies == []


async def test_a_client_that_expects_it_gets_a_100_before_it_sends_the_body(
    connection: ServedConnection, app: Application
) -> None:
    connection.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    await run_other_tasks(3)
    assert connection.statuses == [100]
    connection.send(b"hello")
    await connection.respond()
    assert connection.statuses == [100, 200]
    assert app.bodies == [b"hello"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_a_request_has_one_host(
    connection: ServedConnection, head: bytes, status: int
) -> None:
    connection.send(head)
    await connection.respond()
    assert connection.statuses == [status]


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", make_head(40_000)]
)
async def test_a_rejection_is_a_problem_with_the_security_headers(
    connection: ServedConnection, data: bytes
) -> None:
    connection.send(data)
    head, _, body = connection.transport.written.decode().partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert headers.items() >= SECURITY_HEADERS.items()
    assert headers["Cache-Control"] == "no-store"
    assert headers["Connection"] == "close"
    problem: dict[str, Any] = json.loads(body)
    assert problem["status"] == connection.statuses[0]
    assert problem["type"].startswith("urn:carillon:problem:")


async def test_a_connection_without_a_complete_head_ends_after_10_seconds(
    connection: ServedConnection,
) -> None:
    connection.loop.advance(HEAD_SECONDS - 1)
    assert not connection.transport.is_closing()
    connection.loop.advance(1)
    assert connection.transport.aborted


async def test_bytes_do_not_extend_the_time_for_a_head(connection: ServedConnection) -> None:
    for part in in_pieces(GET[:-1], 3)[:9]:
        connection.loop.advance(1)
        connection.send(part)
    assert connection.statuses == []
    connection.loop.advance(1)
    assert connection.statuses == [408]
    assert connection.transport.ended
    connection.loop.advance(LINGER_SECONDS)
    assert connection.transport.aborted


async def test_an_idle_connection_ends_after_75_seconds(connection: ServedConnection) -> None:
    connection.send(GET)
    await connection.respond()
    connection.loop.advance(IDLE_SECONDS - 1)
    connection.send(GET)
    await connection.respond()
    connection.loop.advance(IDLE_SECONDS - 1)
    assert not connection.transport.is_closing()
    connection.loop.advance(1)
    assert connection.transport.aborted


async def test_a_later_request_has_10_seconds_for_its_head(connection: ServedConnection) -> None:
    connection.send(GET)
    await connection.respond()
    connection.loop.advance(60)
    connection.send(GET[:5])
    connection.loop.advance(HEAD_SECONDS)
    assert connection.statuses == [200, 408]


async def test_a_slow_response_has_no_limit_here(app: Application) -> None:
    connection = connect(app)
    connection.send(GET)
    connection.loop.advance(1_000)
    await connection.respond()
    assert connection.statuses == [200]


async def test_a_client_that_reads_nothing_is_dropped_after_30_seconds(
    connection: ServedConnection,
) -> None:
    connection.transport.reads = False
    connection.send(GET)
    await connection.respond()
    connection.protocol.pause_writing()
    connection.loop.advance(STALL_SECONDS - 1)
    assert not connection.transport.aborted
    connection.loop.advance(1)
    assert connection.transport.aborted


async def test_a_slow_reader_keeps_its_connection_while_it_makes_progress(
    connection: ServedConnection,
) -> None:
    connection.send(GET)
    await connection.respond()
    connection.transport.unread = 10 * MIN_READ_BYTES
    connection.protocol.pause_writing()
    for _ in range(5):
        connection.transport.unread -= MIN_READ_BYTES
        connection.loop.advance(STALL_SECONDS)
    assert not connection.transport.aborted
    connection.transport.unread -= MIN_READ_BYTES - 1
    connection.loop.advance(STALL_SECONDS)
    assert connection.transport.aborted


async def test_beyond_a_limit_the_response_that_has_waited_longest_for_its_reader_is_dropped() -> (
    None
):
    connections = Connections(10, max_unread_bytes=200)
    first, second = (connect(Application(), connections=connections) for _ in range(2))
    for connection in (first, second):
        connection.transport.unread = 60
        connection.protocol.pause_writing()
    assert (first.transport.aborted, second.transport.aborted) == (True, False)
    second.transport.unread = 0
    second.protocol.resume_writing()
    third = connect(Application(), connections=connections)
    third.transport.unread = 60
    third.protocol.pause_writing()
    assert not second.transport.aborted
    assert not third.transport.aborted


def make_post(size: int) -> bytes:
    """The head of a request whose body has this size."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


@pytest.fixture
async def two(app: Application) -> AsyncIterator[list[ServedConnection]]:
    """Two connections of one client, whose requests may have 100 bytes in memory."""
    connections = Connections(10, max_received_bytes=200)
    served = [connect(app, connections=connections) for _ in range(2)]
    yield served
    for connection in served:
        connection.protocol.connection_lost(None)
        await connection.respond()


@pytest.mark.parametrize("start", [make_post(1_000), CHUNKED + b"64\r\n"])
async def test_beyond_a_limit_the_body_that_has_waited_longest_is_dropped(
    two: list[ServedConnection], start: bytes
) -> None:
    first, second = two
    for connection in (first, second):
        connection.send(start + b"x" * 30)
    for _ in range(20):
        second.send(b"x")
    assert not first.transport.aborted
    for _ in range(21):
        first.send(b"x")
    assert first.transport.aborted
    assert not second.transport.aborted


async def test_a_body_counts_until_its_request_is_answered(two: list[ServedConnection]) -> None:
    first, second = two
    second.send(make_post(60) + b"x" * 60)
    await second.respond()
    first.send(make_post(60) + b"x" * 60)
    second.send(make_post(60) + b"x" * 40)
    assert not first.transport.aborted
    second.send(b"x")
    assert first.transport.aborted
    assert not second.transport.aborted


async def test_pipelined_requests_that_wait_count(two: list[ServedConnection]) -> None:
    first, second = two
    first.send(GET + GET)
    second.send(make_post(1_000) + b"x" * (100 - len(GET)))
    assert not first.transport.aborted
    second.send(b"x")
    assert first.transport.aborted


async def test_a_body_that_is_ignored_does_not_count() -> None:
    app, connections = Application(reads=False, status=401), Connections(10, max_received_bytes=200)
    first, second = (connect(app, connections=connections) for _ in range(2))
    for connection in (first, second):
        connection.send(make_post(1_000) + b"x" * 30)
        await connection.respond()
        connection.send(b"x" * 500)
    assert not first.transport.aborted
    assert not second.transport.aborted


async def test_a_response_that_closes_and_is_not_read_ends_after_30_seconds(
    connection: ServedConnection,
) -> None:
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await connection.respond()
    assert connection.transport.closed
    connection.loop.advance(STALL_SECONDS)
    assert connection.transport.aborted


async def test_a_body_after_its_response_is_limited_in_bytes_and_time() -> None:
    start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    for wait, size in ((HEAD_SECONDS, 10), (0, MAX_IGNORED_BYTES + 1)):
        connection = connect(Application(reads=False, status=401))
        connection.send(start)
        await connection.respond()
        assert connection.statuses == [401]
        connection.send(b"x" * size)
        connection.loop.advance(wait)
        assert connection.transport.aborted


async def test_a_connection_goes_on_after_a_body_that_came_after_its_response() -> None:
    app = Application(reads=False, status=401)
    connection = connect(app)
    connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    await connection.respond()
    connection.send(b"hello" + GET)
    await connection.respond()
    assert connection.statuses == [401, 401]
    connection.loop.advance(HEAD_SECONDS + 1)
    assert not connection.transport.is_closing()


async def test_after_a_rejection_received_bytes_are_ignored_up_to_a_limit(
    connection: ServedConnection,
) -> None:
    connection.send(make_head(100_000))
    connection.send(b"x" * MAX_IGNORED_BYTES)
    assert not connection.transport.aborted
    connection.send(b"x")
    assert connection.transport.aborted
    assert sum(connection.parsed) == MAX_HEAD_BYTES


async def test_a_lost_connection_leaves_no_timer(connection: ServedConnection) -> None:
    connection.protocol.pause_writing()
    connection.protocol.connection_lost(None)
    assert [timer for timer in connection.loop.timers if not timer.cancelled] == []


async def test_a_broken_application_does_not_leave_the_connection_open() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        raise ZeroDivisionError

    connection = connect(fail)
    connection.send(GET)
    await connection.respond()
    assert connection.transport.closed
