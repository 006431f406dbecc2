"""Functions and settings that the tests of triggers share. They use no code of the application."""

import functools
from datetime import UTC, datetime

from hypothesis import settings

DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=150, database=None)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@functools.cache
def list_values(text: str, low: int, high: int) -> frozenset[int]:
    """Return the values of a field without names."""
    found: set[int] = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        first, _, last = body.partition("-")
        if body == "*":
            found.update(range(low, high + 1, int(step or 1)))
        else:
            end = int(last) if last else high if step else int(first)
            found.update(range(int(first), end + 1, int(step or 1)))
    return frozenset(found)
