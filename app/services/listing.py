"""Listings: one page of a query, cut from a read of one thing more than was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """Some things in order, and the cursor of the next page; None on the last."""

    items: Sequence[Item]
    next_cursor: str | None


def cut(found: Sequence[Item], limit: int, cursor_of: Callable[[Item], str]) -> Listing[Item]:
    """The page of `limit` things, where `found` holds one more if there is another page."""
    if len(found) <= limit:
        return Listing(found, None)
    return Listing(found[:limit], cursor_of(found[limit - 1]))
