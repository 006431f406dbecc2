"""Database calls during an outage: the deadline of requests, and the threads of the engine."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from app.clock import SystemClock
from app.deadline import Deadline, set_deadline
from app.errors import UnavailableError
from app.repositories.mongo import THREADS, Database, database_call, open_client
from tests.support.clock import ManualClock
from tests.support.engine import open_pymongo_client
from tests.support.waiting import eventually

APP_NAME = "carillon"
REQUESTS = 200
SOON, LATER = 0.1, 60.0


class BlockedFinds:
    """A database whose `find` commands do not return, until the test ends or unblocks them."""

    def __init__(self, database: Database, admin: Any) -> None:
        self.database = database
        self._admin = admin

    @database_call
    async def find(self) -> object:
        return await self.database.collection("items").find_one({})

    def count_running(self) -> int:
        """How many of these calls the server executes now."""
        query = {"command.find": "items"}
        operations = self._admin.aggregate([{"$currentOp": {}}, {"$match": query}])
        return len(list(operations))


@pytest.fixture(
    params=[
        pytest.param(open_client, id="motor"),
        pytest.param(open_pymongo_client, id="pymongo", marks=pytest.mark.slow),
    ]
)
async def blocked(
    own_mongo_uri: str, request: pytest.FixtureRequest
) -> AsyncIterator[BlockedFinds]:
    open_driver: Callable[..., Any] = request.param
    client = open_driver(own_mongo_uri, timeout=timedelta(seconds=8))
    database = Database(client, "test", clock=ManualClock())
    await database.ping()
    with MongoClient[dict[str, Any]](own_mongo_uri) as admin_client:
        data = {
            "failCommands": ["find"],
            "appName": APP_NAME,
            "blockConnection": True,
            "blockTimeMS": 5_000,
        }
        admin_client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        yield BlockedFinds(database, admin_client.admin)
        admin_client.admin.command("configureFailPoint", "failCommand", mode="off")
    await database.close()


@contextmanager
def request_ending_in(seconds: float) -> Iterator[None]:
    monotonic = SystemClock().monotonic
    with set_deadline(Deadline(monotonic() + seconds, monotonic)):
        yield


async def call_in_request(call: Callable[[], Awaitable[object]], seconds: float) -> object:
    with request_ending_in(seconds):
        return await call()


def count_threads_of_requests() -> int:
    return sum(thread.name.startswith("database-request") for thread in threading.enumerate())


@pytest.mark.parametrize("blocked", [open_client], indirect=True)
async def test_the_engine_calls_the_database_while_any_number_of_requests_hang(
    blocked: BlockedFinds,
) -> None:
    requests = [
        asyncio.ensure_future(call_in_request(blocked.find, LATER)) for _ in range(REQUESTS)
    ]
    await eventually(lambda: blocked.count_running() >= THREADS)
    await blocked.database.ping()
    assert not any(request.done() for request in requests)
    assert count_threads_of_requests() <= THREADS
    for request in requests:
        request.cancel()
    await asyncio.wait(requests)


@pytest.mark.parametrize("blocked", [open_client], indirect=True)
async def test_all_requests_end_at_their_deadline_also_those_without_a_thread(
    blocked: BlockedFinds,
) -> None:
    requests = (call_in_request(blocked.find, SOON) for _ in range(REQUESTS))
    errors = await asyncio.gather(*requests, return_exceptions=True)
    assert {type(error) for error in errors} == {UnavailableError}


async def test_a_call_ends_at_the_deadline_of_its_request_with_each_driver(
    blocked: BlockedFinds,
) -> None:
    with request_ending_in(SOON), pytest.raises(UnavailableError):
        await blocked.find()


class Calls:
    """Database calls that never end, counted."""

    def __init__(self) -> None:
        self.count = 0

    @database_call
    async def hang(self) -> None:
        self.count += 1
        await asyncio.Event().wait()


async def test_a_request_makes_no_call_after_its_deadline() -> None:
    calls = Calls()
    with request_ending_in(SOON):
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await calls.hang()
    assert calls.count == 1


async def test_a_call_of_the_engine_has_no_deadline_of_a_request() -> None:
    calls = Calls()
    hanging = asyncio.ensure_future(calls.hang())
    with request_ending_in(SOON), pytest.raises(UnavailableError):
        await calls.hang()
    assert not hanging.done()
    hanging.cancel()
    await asyncio.wait([hanging])
    assert calls.count == 2
