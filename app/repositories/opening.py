"""Opens the database when a process starts, and says what to do if it does not respond."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pymongo.errors import OperationFailure

from app.clock import Clock
from app.errors import ConfigurationError, UnavailableError
from app.repositories.mongo import Database, open_client
from app.store_addresses import describe_store

_REFUSALS = {
    13: "its user lacks the role readWrite on the database that MONGODB_NAME names",
    18: "it rejects the user or the password in MONGODB_URI, or its option authSource is missing",
    8000: "it rejects the user or the password in MONGODB_URI",
}
_MAX_REASON = 300


@asynccontextmanager
async def open_database(
    uri: str, name: str, *, clock: Clock, limit: timedelta
) -> AsyncIterator[Database]:
    """Yield the database when its primary responds, and close its client at the end.

    Raises ConfigurationError if the database does not respond within `limit` or refuses the
    user. The text has no credentials.
    """
    database = Database(open_client(uri, timeout=limit), name, clock=clock)
    try:
        await _check(database, describe_store(uri), limit)
        yield database
    finally:
        await database.close()


async def _check(database: Database, address: str, limit: timedelta) -> None:
    try:
        await database.ping()
    except UnavailableError as error:
        reason = _find_reason(error.__cause__)
        raise ConfigurationError(
            f"The database at {address} does not respond within {limit.total_seconds():g} s:"
            f" {reason}. Start it, or set MONGODB_URI to the address of a replica set that runs."
        ) from error
    except OperationFailure as error:
        if error.code not in _REFUSALS:
            raise
        raise ConfigurationError(
            f"The database at {address} cannot be used: {_REFUSALS[error.code]}."
        ) from error


def _find_reason(cause: BaseException | None) -> str:
    """The first part of a driver's message. The rest of it are time limits and the topology."""
    text = str(cause).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    return text[:_MAX_REASON]
