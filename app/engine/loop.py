"""Loop: waiting, backing off and stopping, for every loop of the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from app.clock import Clock
from app.errors import UnavailableError

_log = structlog.get_logger(__name__)

AT_ONCE = timedelta(0)
"""What a tick returns while there is more to do."""

_TIMER_SLACK = timedelta(milliseconds=1)  # timers may end a little early

_FIRST_BACKOFF = timedelta(milliseconds=100)
_MAX_BACKOFF = timedelta(seconds=5)

ROUND_LIMIT = timedelta(minutes=2)
"""The time limit of a round. Every part of a round has a shorter limit, so a round that takes this
long waits for something that never comes. `/health/ready` reports a late round much earlier."""


def rest_until(instant: datetime | None, now: datetime, *, most: timedelta) -> timedelta:
    """The time from `now` until `instant`, at most `most`; None is an instant that never comes."""
    if instant is None:
        return most
    return min(instant - now + _TIMER_SLACK, most) if instant > now else AT_ONCE


class Loop:
    """Calls `tick` again and again. A tick is one round and returns the time until the next one.

    `wake` starts the next round early. A failing tick never ends the loop: it is logged and tried
    again, after 0.1 s at first and at most 5 s. A tick that takes longer than `ROUND_LIMIT` is
    cancelled and counts as failed. What it has written stays, as after a crash.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[timedelta]],
        *,
        clock: Clock,
        wake: asyncio.Event | None = None,
    ) -> None:
        self.name = name
        self._tick = tick
        self._clock = clock
        self._wake = wake or asyncio.Event()
        self._stopping = False
        self._backoff = AT_ONCE
        self._task: asyncio.Task[None] | None = None
        self._ticked_at: float | None = None
        self._rest = AT_ONCE

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self, grace: timedelta) -> None:
        """Let the present round end, then stop. Cancel a round that takes longer than `grace`."""
        self._stopping = True
        self._wake.set()
        if self._task is None:
            return
        try:
            async with self._clock.timeout(grace):
                await asyncio.wait({self._task})
        except TimeoutError:
            _log.error("loop_hung", loop=self.name, limit_seconds=grace.total_seconds())
            self._task.cancel()
            await asyncio.wait({self._task})

    def get_seconds_overdue(self) -> float | None:
        """Return by how many seconds the next round is late; None before the first round has ended.

        The next round is expected at the end of the wait that the last successful round returned.
        """
        if self._ticked_at is None:
            return None
        return max(0.0, self._clock.monotonic() - self._ticked_at - self._rest.total_seconds())

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            rest = await self._round()
            if rest > AT_ONCE and not self._stopping:
                await self._wait(rest)

    async def _round(self) -> timedelta:
        try:
            async with self._clock.timeout(ROUND_LIMIT):
                rest = await self._tick()
        except UnavailableError as error:
            _log.warning("loop_interrupted", loop=self.name, error=error.detail)
        except TimeoutError:
            _log.exception("loop_hung", loop=self.name, limit_seconds=ROUND_LIMIT.total_seconds())
        except Exception:  # a bug in one round must not end the service
            _log.exception("loop_failed", loop=self.name)
        else:
            self._ticked_at = self._clock.monotonic()
            self._rest = rest
            self._backoff = AT_ONCE
            return rest
        self._backoff = min(max(self._backoff * 2, _FIRST_BACKOFF), _MAX_BACKOFF)
        return self._backoff

    async def _wait(self, rest: timedelta) -> None:
        try:
            async with asyncio.timeout(rest.total_seconds()):
                await self._wake.wait()
        except TimeoutError:
            return
