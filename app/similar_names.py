"""Finds the known name that a misspelt one resembles."""

from collections.abc import Collection
from difflib import get_close_matches

_SIMILARITY = 0.75
"""From 0 to 1. At 0.75, `maxruns` and `nmae` are similar to a name, `months` and `minutes` not."""


def find_nearest(name: str, known: Collection[str], similarity: float = _SIMILARITY) -> str | None:
    """The known name that is most similar; None if none is similar enough. The time grows with the
    length of the name."""
    return next(iter(get_close_matches(name, known, 1, similarity)), None)
