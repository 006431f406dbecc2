"""The writes that a repository sends: counted, measured, or preceded by another process."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import bson

Document = dict[str, Any]


class RecordedCollection:
    """A collection of the code under test that keeps each `update_many`.

    `before_write`, if it is set, is awaited once before the next one.
    """

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        self.writes: list[Document] = []
        self.before_write: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def update_many(self, condition: Document, update: list[Document], **options: Any) -> Any:
        self.writes.append({"q": condition, "u": update})
        act, self.before_write = self.before_write, None
        write = partial(self._collection.update_many, **options)
        return (
            write(condition, update) if act is None else _write_after(act, write, self.writes[-1])
        )

    def count_bytes(self) -> list[int]:
        """Return the size of each write in BSON."""
        return [len(bson.encode(write)) for write in self.writes]


async def _write_after(
    act: Callable[[], Awaitable[object]], write: Callable[..., Any], statement: Document
) -> Any:
    await act()
    return await write(statement["q"], statement["u"])


def record_writes(repository: Any, attribute: str = "_executions") -> RecordedCollection:
    """Replace the collection in this attribute of a repository by a recorded one."""
    recorded = RecordedCollection(getattr(repository, attribute))
    setattr(repository, attribute, recorded)
    return recorded


def list_searched(write: Document) -> list[int]:
    """Return the length of each list that an expression of the write searches."""
    return list(_find_searches(write))


def _find_searches(part: Any) -> Any:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$indexOfArray":
                yield len(value[0]["$literal"])
            yield from _find_searches(value)
    elif isinstance(part, list):
        for value in part:
            yield from _find_searches(value)
