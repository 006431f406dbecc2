"""The MongoDB client: the only module that imports Motor.

The other modules call methods that are the same in Motor and in PyMongo's own async client. The
tests of the engine use both.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from app.clock import Clock
from app.errors import UnavailableError

LISTING_LIMIT = timedelta(seconds=2)
"""The time limit of a listing, because filters without an index of their own scan a range."""

ONE_BATCH = 10_000
"""A batch size with which a cursor of fewer small documents needs no second round trip."""

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Collection = AsyncIOMotorCollection[Document]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Server error codes of a node that is stepping down, shutting down or not yet primary
# (the "retryable" codes of the MongoDB driver specifications).
_OUTAGE_CODES = frozenset({6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})


def open_client(uri: str, *, timeout: timedelta) -> Client:
    """A client whose calls each end within `timeout`, including the time to connect and wait."""
    return AsyncIOMotorClient(uri, **client_options(timeout))


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
        documents = [{"now": self.clock.now_expression}]
        response = await database_call(self._database.command)(
            {"aggregate": 1, "pipeline": [{"$documents": documents}], "cursor": {}},
            codec_options=self._database.codec_options,
        )
        now: datetime = response["cursor"]["firstBatch"][0]["now"]
        return now

    async def ping(self) -> None:
        """Check that the primary responds. Raises UnavailableError."""
        await self.now()

    async def close(self) -> None:
        client: Any = self._client
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
    is raised unchanged."""

    @wraps(method)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(*args, **kwargs)
        except PyMongoError as error:
            if is_outage(error):
                raise UnavailableError("The database does not respond.") from error
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
    third of the single updates in bulk. Values are literals, which the server does not evaluate.
    """
    return {"$arrayElemAt": [{"$literal": values}, {"$indexOfArray": [ids, "$_id"]}]}
