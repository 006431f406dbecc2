"""Limits of the sign-ins that are in progress at the same time, because each costs a hash."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooManyRequestsError

PARALLEL_HASHES = 2
MAX_IN_PROGRESS = PARALLEL_HASHES + 8
"""Two are hashed and eight wait."""

MAX_OF_ONE_CLIENT = 2
"""The sign-ins in progress from one address, and the sign-ins in progress to one account."""


class SignInLimit:
    """Counts the sign-ins in progress, in all and for each address and account."""

    def __init__(self) -> None:
        self._in_progress = 0
        self._of_key: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def enter(self, *, address: str, account: str) -> Iterator[None]:
        """Count a sign-in during the block. Raises TooManyRequestsError, before any work.

        An account that does not exist counts like any other, so the response does not tell which
        accounts exist.
        """
        keys = (("address", address), ("account", account))
        if self._in_progress >= MAX_IN_PROGRESS or any(
            self._of_key[key] >= MAX_OF_ONE_CLIENT for key in keys
        ):
            raise TooManyRequestsError(
                "Too many sign-ins are in progress: at most"
                f" {MAX_OF_ONE_CLIENT} from one address or to one account, and {MAX_IN_PROGRESS}"
                " in all. Send this request again after the time in Retry-After."
            )
        self._in_progress += 1
        self._of_key.update(keys)
        try:
            yield
        finally:
            self._in_progress -= 1
            self._of_key -= Counter(keys)
