"""The clock: the only module that asks for the time.

The database's clock decides what is due and when a lease ends, so that processes whose clocks
differ agree. `now_expression` is how a repository says "now" inside a query or an update; the
process's own `now()` serves only logs, tokens and ids.
"""

import time
from datetime import UTC, datetime
from typing import Any, Protocol


def to_millisecond(instant: datetime) -> datetime:
    """`instant` cut to whole milliseconds, the precision of BSON dates."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


class Clock(Protocol):
    """What the service needs of time."""

    @property
    def now_expression(self) -> Any:
        """A MongoDB aggregation expression for the present instant."""
        ...

    def now(self) -> datetime:
        """The process's present instant, in UTC and whole milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""
        ...


class SystemClock:
    """The real time: of the machine, and in queries of the database server."""

    now_expression: Any = "$$NOW"

    def now(self) -> datetime:
        return to_millisecond(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()
