"""A clock that tests move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class _Timer:
    """A timeout that has been entered and not left."""

    ends_at: datetime
    timeout: asyncio.Timeout
    loop: asyncio.AbstractEventLoop


class ManualClock:
    """A `Clock` whose time changes only by `advance`. Queries of the database use it, too."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1_000.0
        self._timers: set[_Timer] = set()

    @property
    def now_expression(self) -> Any:
        return {"$literal": self._now}

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    @property
    def timer_count(self) -> int:
        """The number of `timeout` bodies that have not ended."""
        return len(self._timers)

    @asynccontextmanager
    async def timeout(self, delay: timedelta) -> AsyncIterator[None]:
        """Like `Clock.timeout`, with the time of this clock."""
        async with asyncio.timeout(None) as timeout:
            timer = _Timer(self._now + delay, timeout, asyncio.get_running_loop())
            self._timers.add(timer)
            self._fire_if_due(timer)
            try:
                yield
            finally:
                self._timers.discard(timer)

    def advance(self, by: timedelta) -> None:
        """Move the clock and end the timeouts that are due.

        Their bodies are cancelled when the event loop runs next, so this works outside of it, too.
        """
        self._now += by
        self._monotonic += by.total_seconds()
        for timer in self._timers:
            self._fire_if_due(timer)

    def _fire_if_due(self, timer: _Timer) -> None:
        if timer.ends_at <= self._now:
            timer.loop.call_soon(self._fire, timer)

    def _fire(self, timer: _Timer) -> None:
        if timer in self._timers:  # otherwise its body has ended in the meantime
            timer.timeout.reschedule(timer.loop.time())
