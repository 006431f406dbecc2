"""The scheduler: polls for due jobs by the `next_run` index and fires them."""

from datetime import timedelta

from app.clock import Clock
from app.engine.loop import AT_ONCE
from app.repositories.jobs import JobRepository
from app.services.firing import Firing

_BATCH = 500
_A_MOMENT = timedelta(milliseconds=1)  # timers may end a little early


class Scheduler:
    """Fires what is due. Any number of schedulers may run at once; none leads."""

    def __init__(
        self, *, jobs: JobRepository, firing: Firing, clock: Clock, poll_interval: timedelta
    ) -> None:
        self._jobs = jobs
        self._firing = firing
        self._clock = clock
        self._poll_interval = poll_interval

    async def tick(self) -> timedelta:
        """One round. Rests until the earliest cursor, at most the poll interval."""
        read_at = self._clock.monotonic()
        peek = await self._jobs.peek()
        if peek.next_run is None:
            return self._poll_interval
        if peek.next_run > peek.now:
            return min(peek.next_run - peek.now + _A_MOMENT, self._poll_interval)
        due = await self._jobs.list_due(peek.now, limit=_BATCH)
        await self._firing.fire(due, peek.now, read_at=read_at)
        return AT_ONCE
