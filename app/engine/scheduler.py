"""The scheduler: polls for due jobs by the `next_run` index and fires them."""

from datetime import datetime, timedelta

from app.clock import Clock
from app.engine.loop import AT_ONCE
from app.repositories.jobs import JobRepository, Peek
from app.services.firing import Firing

_BATCH = 500
_TIMER_SLACK = timedelta(milliseconds=1)  # timers may end a little early

_NO_PROGRESS_INTERVAL = timedelta(milliseconds=50)
_MARGIN = timedelta(seconds=1)
"""A `next_run` is rarely stored later than this after the instant from which it is computed."""
_FULL_POLL_SECONDS = 5.0
"""A `next_run` that is stored later is found by the next full poll, after this time."""


class Scheduler:
    """Fires what is due. Any number of schedulers may run at once; none leads.

    A poll starts at the earliest key of the last poll, to skip dead index entries that the
    database has not removed yet. This is only an optimisation: at the start, every five seconds
    and after an error a poll reads the whole index.
    """

    def __init__(
        self, *, jobs: JobRepository, firing: Firing, clock: Clock, poll_interval: timedelta
    ) -> None:
        self._jobs = jobs
        self._firing = firing
        self._clock = clock
        self._poll_interval = poll_interval
        self._since: datetime | None = None
        self._full_poll_at = clock.monotonic()

    async def tick(self) -> timedelta:
        """One round. Returns the time until the earliest `next_run`, at most the poll interval."""
        read_at = self._clock.monotonic()
        since, self._since = self._since, None  # stays None if this round fails
        if read_at >= self._full_poll_at + _FULL_POLL_SECONDS:
            since = None
        if since is None:
            self._full_poll_at = read_at
        peek = await self._jobs.peek(since=since)
        earliest = min(peek.next_run or peek.now, peek.now)
        rest = self._rest(peek)
        if rest == AT_ONCE:
            due = await self._jobs.list_due(peek.now, limit=_BATCH, since=since)
            advanced = await self._firing.fire(due, peek.now, read_at=read_at)
            if due and not advanced:  # another process fires them; do not read them at full speed
                rest = min(self._poll_interval, _NO_PROGRESS_INTERVAL)
        self._since = earliest - _MARGIN
        return rest

    def _rest(self, peek: Peek) -> timedelta:
        if peek.next_run is None:
            return self._poll_interval
        if peek.next_run > peek.now:
            return min(peek.next_run - peek.now + _TIMER_SLACK, self._poll_interval)
        return AT_ONCE
