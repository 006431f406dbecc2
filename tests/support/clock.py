"""A clock that tests move."""

from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class ManualClock:
    """Stands still until it is told to move; the database's now is its now."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1_000.0

    @property
    def now_expression(self) -> Any:
        return {"$literal": self._now}

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._monotonic += by.total_seconds()
