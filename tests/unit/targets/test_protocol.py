"""What the limits of responses need of aiohttp, and the protocol's turns without a network."""

import asyncio
import inspect
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from app.targets.protocol import TURN_BYTES, LimitedConnector, LimitedResponseHandler
from tests.support.receiver import Receiver
from tests.support.waiting import run_other_tasks

APP = Path(__file__).resolve().parents[3] / "app"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"


async def test_aiohttp_still_builds_its_protocol_by_this_private_attribute() -> None:
    connector = aiohttp.TCPConnector()
    assert isinstance(connector._factory, partial)
    assert connector._factory.func is ResponseHandler
    assert (connector._factory.args, set(connector._factory.keywords)) == ((), {"loop"})
    await connector.close()


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("__init__", ["self", "loop"]),
        ("data_received", ["self", "data"]),
        ("feed_data", ["self", "data", "size"]),
        ("set_exception", ["self", "exc", "exc_cause"]),
        ("pause_reading", ["self"]),
        ("resume_reading", ["self", "resume_parser"]),
        ("force_close", ["self"]),
        ("connection_lost", ["self", "exc"]),
    ],
)
def test_aiohttps_protocol_still_has_the_methods_that_ours_overrides_or_calls(
    method: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(ResponseHandler, method)).parameters) == parameters
    assert isinstance(ResponseHandler.should_close, property)


async def test_the_connections_of_a_session_have_the_limited_protocol() -> None:
    async with (
        Receiver() as receiver,
        aiohttp.ClientSession(connector=LimitedConnector()) as session,
    ):
        receiver.never_respond()
        sending = asyncio.ensure_future(session.get(receiver.url))
        await receiver.wait_for_requests(1)
        assert session.connector is not None
        (protocol,) = session.connector._acquired
        assert type(protocol) is LimitedResponseHandler
        sending.cancel()
        await asyncio.wait({sending})


def test_only_one_module_uses_private_attributes_of_aiohttps_connector() -> None:
    users = [path.name for path in APP.rglob("*.py") if "._factory" in path.read_text()]
    assert users == ["protocol.py"]


class FakeTransport(asyncio.Transport):
    """Records whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


def open_protocol() -> tuple[LimitedResponseHandler, FakeTransport]:
    protocol, transport = LimitedResponseHandler(asyncio.get_running_loop()), FakeTransport()
    protocol.connection_made(transport)
    protocol.set_response_params(read_until_eof=True)
    return protocol, transport


async def test_reading_pauses_until_the_last_part_of_a_read_is_parsed() -> None:
    protocol, transport = open_protocol()
    protocol.data_received(HEAD + b"x" * 2 * TURN_BYTES)
    _, content = await protocol.read()
    assert (content.total_bytes, transport.reading) == (TURN_BYTES - len(HEAD), False)
    await run_other_tasks()
    assert (content.total_bytes, transport.reading) == (2 * TURN_BYTES - len(HEAD), False)
    assert protocol.should_close
    await run_other_tasks()
    assert (content.total_bytes, transport.reading) == (2 * TURN_BYTES, True)


async def test_the_rest_of_a_response_is_parsed_when_the_connection_is_lost() -> None:
    protocol, _ = open_protocol()
    protocol.data_received(HEAD + b"x" * 10_000)
    protocol.connection_lost(ConnectionResetError())
    _, content = await protocol.read()
    assert len(await content.read()) == 10_000


async def test_the_rest_of_a_response_is_not_parsed_after_the_connection_was_closed() -> None:
    protocol, _ = open_protocol()
    protocol.data_received(HEAD + b"x" * 10_000)
    _, content = await protocol.read()
    protocol.close()
    await run_other_tasks(3)
    protocol.connection_lost(None)
    assert content.total_bytes == TURN_BYTES - len(HEAD)


async def test_reading_that_the_consumer_paused_is_resumed_only_by_the_consumer() -> None:
    protocol, transport = open_protocol()
    protocol.data_received(HEAD + b"x" * TURN_BYTES)
    protocol.pause_reading()
    await run_other_tasks(3)
    assert not transport.reading
    protocol.resume_reading()
    assert transport.reading


async def test_bytes_after_the_response_are_dropped_and_end_the_connection() -> None:
    protocol, transport = open_protocol()
    protocol.data_received(HEAD + b"x" * 10_000)
    await run_other_tasks(3)
    await protocol.read()
    assert not protocol.should_close
    protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert protocol.should_close
    assert not transport.reading
    assert len(protocol) == 0


@pytest.mark.parametrize("cut", range(60))
@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 2),
        (b"HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\nhello", 0),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 OK\r\n\r\nhello and goodbye", 0),
    ],
)
async def test_bytes_after_the_response_are_dropped_wherever_tcp_cuts_it(
    data: bytes, length: int, cut: int
) -> None:
    protocol, _ = open_protocol()
    for part in (data[:cut], data[cut:]):
        protocol.data_received(part)
    message, content = await protocol.read()
    while message.code == 100:
        message, content = await protocol.read()
    assert (content.is_eof(), content.total_bytes, content.exception()) == (True, length, None)
    assert protocol.should_close
