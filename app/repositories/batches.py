"""Writes of many items at once, of which the database may reject one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bson.errors import BSONError
from pymongo.errors import PyMongoError

from app.errors import UnavailableError

_T = TypeVar("_T")
_R = TypeVar("_R")


async def write_in_parts(
    items: Sequence[_T],
    write: Callable[[Sequence[_T]], Awaitable[Sequence[_R]]],
    reject: Callable[[_T, Exception], Awaitable[Sequence[_R]]],
) -> list[_R]:
    """Write all items at once. If that fails, write each half, and so on.

    `reject` handles a single item that could not be written. So this item harms no other. `write`
    may be repeated for items that are written already. Raises UnavailableError immediately, because
    an outage concerns all items.
    """
    try:
        return list(await write(items))
    except UnavailableError:
        raise
    except Exception as error:
        if len(items) == 1:
            return list(await reject(items[0], error))
    middle = len(items) // 2
    return [
        *await write_in_parts(items[:middle], write, reject),
        *await write_in_parts(items[middle:], write, reject),
    ]


def is_rejection(error: Exception) -> bool:
    """Whether the database or its driver has rejected a document, as opposed to a bug."""
    return isinstance(error, PyMongoError | BSONError)


def describe_rejection(error: Exception) -> str:
    """The error without its text, because the text may contain values of users."""
    code = getattr(error, "code", None)
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"
