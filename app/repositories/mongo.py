"""The MongoDB client: the only module that imports Motor.

The other modules call methods that are the same in Motor and in PyMongo's own async client. The
tests of the engine use both.

Motor makes each call in a thread. Requests have threads of their own: if the database does not
respond, any number of requests may wait, and the engine still has a thread for its next call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import cache, partial, wraps
from inspect import isawaitable
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import pymongo
from motor.core import AgnosticClient
from motor.frameworks import asyncio as motor_framework
from motor.metaprogramming import create_class_with_framework
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.errors import ConfigurationError as InvalidOptions

from app.clock import Clock
from app.deadline import find_deadline
from app.errors import ConfigurationError, UnavailableError

THREADS = 10
"""The number of threads for the calls of requests, and the number for all other calls. Together
they stay far below the 100 connections of a client."""

LISTING_LIMIT = timedelta(seconds=2)
"""The time limit of a listing, because filters without an index of their own scan a range."""

CLOSE_SECONDS = 1
"""The longest wait of a client that is closed: it tells the database, which may not respond.
Without it the driver waits for 30 s."""

ONE_BATCH = 10_000
"""The batch size with which up to 10,000 small documents arrive in one round trip."""

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Collection = AsyncIOMotorCollection[Document]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Server error codes of a node that is stepping down, shutting down or not yet primary
# (the "retryable" codes of the MongoDB driver specifications).
_RETRYABLE_CODES = frozenset({6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
_BUSY_CODES = frozenset({112, 365, 14031})  # a write conflict, a full cache, a full disk
_OUTAGE_CODES = _RETRYABLE_CODES | _BUSY_CODES


_NO_RESPONSE = "The database does not respond."


def open_client(uri: str, *, timeout: timedelta) -> Client:
    """A client whose calls each end within `timeout`, including the time to connect and wait.

    Raises ConfigurationError. Its text does not contain parts of the address, which may be secret.
    """
    try:
        client: Client = _build_client_class()(uri, **client_options(timeout))
    except (InvalidURI, ValueError):
        raise ConfigurationError(
            "MONGODB_URI is not an address. Set it to one such as"
            " mongodb://db.example:27017/?replicaSet=rs0, with special characters in its password"
            " as %XX."
        ) from None
    except InvalidOptions as error:
        raise ConfigurationError(
            f"MONGODB_URI cannot be used: {error}. Correct its options, or the DNS records that it"
            " names."
        ) from None
    return client


class Database:
    """One database of an open client. `close` closes its client."""

    def __init__(self, client: Client, name: str, *, clock: Clock) -> None:
        self._client = client
        self._database: AsyncIOMotorDatabase[Document] = client[name]
        self.clock = clock

    def collection(self, name: str) -> Collection:
        return self._database[name]

    async def now(self) -> datetime:
        """The database's present instant. Raises UnavailableError."""
        [document] = await self.compute([{"$documents": [{"now": self.clock.now_expression}]}])
        now: datetime = document["now"]
        return now

    async def compute(self, pipeline: list[Document]) -> list[Document]:
        """The documents of a pipeline that begins with `$documents`, at most `ONE_BATCH`. Raises
        UnavailableError."""
        response = await database_call(self._database.command)(
            {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": ONE_BATCH}},
            codec_options=self._database.codec_options,
        )
        documents: list[Document] = response["cursor"]["firstBatch"]
        return documents

    async def ping(self) -> None:
        """Check that the primary responds. Raises UnavailableError."""
        await self.now()

    async def close(self) -> None:
        client: Any = self._client
        with pymongo.timeout(CLOSE_SECONDS):
            closing = client.close()
            if isawaitable(closing):  # PyMongo's own async client; Motor's close is synchronous
                await closing


def client_options(timeout: timedelta) -> dict[str, Any]:
    """The options of every client, including the client of the heartbeat.

    A write is acknowledged when a majority has it: with `w=1` a failover loses the writes that
    were acknowledged just before it. `timeoutMS` bounds every call: the driver has no socket
    timeout.
    """
    return {
        "appname": "carillon",
        "w": "majority",
        "retryWrites": True,
        "timeoutMS": int(timeout.total_seconds() * 1000),
        "tz_aware": True,
        "tzinfo": UTC,
        # What Python cannot represent must not be an error of a whole batch (see readers.py).
        "datetime_conversion": "DATETIME_AUTO",
        "unicode_decode_error_handler": "replace",
    }


def is_outage(error: PyMongoError) -> bool:
    """Whether the database is unavailable, as opposed to a rejected request.

    It may be unknown whether a write was applied.
    """
    if isinstance(error, ConnectionFailure) or error.timeout:
        return True
    if isinstance(error, BulkWriteError):
        return bool(error.details["writeConcernErrors"])
    return isinstance(error, OperationFailure) and error.code in _OUTAGE_CODES


def database_call(method: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
    """Turn an outage into UnavailableError. The error of a rejected request is a bug and
    is raised unchanged.

    At the deadline of the request the call ends, too. This includes the wait for a thread. A call
    that waits for a thread is then not made. A call that has a thread continues in this thread for
    at most the time limit of the client, so a write may still take effect.
    """

    @wraps(method)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        deadline = find_deadline()
        remaining = None if deadline is None else deadline.get_remaining_seconds()
        if remaining is not None and remaining <= 0:
            raise UnavailableError(_NO_RESPONSE)
        try:
            async with asyncio.timeout(remaining):
                return await method(*args, **kwargs)
        except TimeoutError as error:
            raise UnavailableError(_NO_RESPONSE) from error
        except PyMongoError as error:
            if is_outage(error):
                raise UnavailableError(_NO_RESPONSE) from error
            raise

    return call


async def aggregate(
    collection: Collection, pipeline: list[Document], *, hint: str | None = None
) -> list[Document]:
    """The documents of a pipeline whose result is small: it arrives in one batch."""
    options: dict[str, Any] = {"batchSize": ONE_BATCH} | ({} if hint is None else {"hint": hint})
    cursor: Any = collection.aggregate(pipeline, **options)
    if isawaitable(cursor):  # PyMongo's own async client
        cursor = await cursor
    documents: list[Document] = await cursor.to_list(None)
    return documents


def pick(ids: list[str], values: list[Any]) -> Document:
    """An expression whose value in the document with the id `ids[i]` is `values[i]`.

    With it one `update_many` gives each document of a batch its own values. This costs the server a
    third of the single updates in bulk. Ids and values are literals, which the server does not
    evaluate.
    """
    return {"$arrayElemAt": [{"$literal": values}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]}


@cache
def _build_client_class() -> Any:
    """Motor's client class, but with two executors instead of one.

    Motor reads the executor from the "framework" module that its classes are built for, and keeps
    the classes of each framework. So there is one framework, with one pair of executors, a process.
    """
    of_requests = ThreadPoolExecutor(THREADS, "database-request")
    of_others = ThreadPoolExecutor(THREADS, "database")

    def run_on_executor(
        loop: asyncio.AbstractEventLoop, call: Callable[..., _T], *args: Any, **kwargs: Any
    ) -> "asyncio.Future[_T]":
        executor = of_others if find_deadline() is None else of_requests
        return loop.run_in_executor(executor, partial(copy_context().run, call, *args, **kwargs))

    framework = ModuleType("carillon_motor_framework")
    vars(framework).update(vars(motor_framework) | {"run_on_executor": run_on_executor})
    return create_class_with_framework(AgnosticClient, framework, AsyncIOMotorClient.__module__)
