"""The clock: the only module that asks for the time.

The database's clock decides what is due and when a lease ends, so that processes whose clocks
differ agree. `now_expression` is how a repository says "now" inside a query or an update; the
process's own `now()` serves only logs, tokens and ids.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


def to_millisecond(instant: datetime) -> datetime:
    """`instant` truncated to whole milliseconds, the precision of BSON dates."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


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

        The statement then raises TimeoutError. A body that suppresses the cancellation runs on.
        """
        ...


class SystemClock:
    """The real time: of the machine, and in queries of the database server."""

    now_expression: Any = "$$NOW"

    def now(self) -> datetime:
        return to_millisecond(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    def timeout(self, delay: timedelta) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(delay.total_seconds())
