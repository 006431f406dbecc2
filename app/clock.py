"""The clock: the only module that asks for the time, except for the timestamps of log lines.

The database's clock decides what is due and when a lease ends, so that processes whose clocks
differ agree. A repository uses `now_expression` for the database's present instant in a query or an
update. The process's own `now()` is for tokens, ids, the timestamps of users and Retry-After.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


def truncate_to_milliseconds(instant: datetime) -> datetime:
    """`instant` truncated to whole milliseconds, the precision of BSON dates."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def count_milliseconds(duration: timedelta) -> int:
    """`duration` in whole milliseconds, for queries and updates."""
    return duration // timedelta(milliseconds=1)


class Clock(Protocol):
    """Gives the time to every other part of the service."""

    @property
    def now_expression(self) -> Any:
        """A MongoDB aggregation expression for the present instant."""
        ...

    def now(self) -> datetime:
        """The process's present instant, in UTC and whole milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences are meaningful."""
        ...

    def timeout(self, delay: timedelta) -> AbstractAsyncContextManager[object]:
        """Cancel the body of the `async with` statement when `delay` has passed.

        The statement then raises TimeoutError. A body that suppresses the cancellation continues.
        """
        ...


class SystemClock:
    """The clock of this machine, and in queries the clock of the database server."""

    now_expression: Any = "$$NOW"

    def now(self) -> datetime:
        return truncate_to_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    def timeout(self, delay: timedelta) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(delay.total_seconds())
