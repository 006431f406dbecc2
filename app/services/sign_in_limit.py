"""Limits of the sign-ins that are in progress at the same time, because each costs a hash."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooManyRequestsError

PARALLEL_HASHES = 2
MAX_IN_PROGRESS = PARALLEL_HASHES + 8
"""Two are hashed and eight wait."""

MAX_OF_ONE_CLIENT = 2
"""The sign-ins in progress from one address. There is no such limit for an account: somebody who
guesses its password would keep its owner from signing in."""


class SignInLimit:
    """Counts the sign-ins in progress, in all and for each address."""

    def __init__(self) -> None:
        self._in_progress: Counter[str] = Counter()

    @contextmanager
    def enter(self, address: str) -> Iterator[None]:
        """Count a sign-in during the block. Raises TooManyRequestsError, before any work."""
        is_full = self._in_progress.total() >= MAX_IN_PROGRESS
        if is_full or self._in_progress[address] >= MAX_OF_ONE_CLIENT:
            raise TooManyRequestsError(
                "Too many sign-ins are in progress: at most"
                f" {MAX_OF_ONE_CLIENT} from one address, and {MAX_IN_PROGRESS} in all. Send this"
                " request again after the time in Retry-After."
            )
        self._in_progress[address] += 1
        try:
            yield
        finally:
            self._in_progress -= Counter([address])
