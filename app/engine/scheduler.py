"""The scheduler: polls for due jobs by the `next_run` index and fires them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from app.clock import Clock
from app.engine.loop import AT_ONCE, rest_until
from app.errors import UnavailableError
from app.models.coverage import Coverage
from app.models.job import Job
from app.models.schedule import MILLISECOND
from app.repositories.due_jobs import DueJobs, NextDue
from app.repositories.jobs import JobRepository
from app.services.firing import Firing
from app.services.ticks import TickService

_log = structlog.get_logger(__name__)

_BATCH = 500
_MIN_BATCH = 20
"""The fewest jobs that a round reads. After a round without time for all of its jobs, the next
reads twice as many as were fired."""

_PEEKED = 16
"""The number of keys that a scheduler reads to find the next job that concerns it."""

_OVERDUE = timedelta(milliseconds=100)
"""A scheduler also fires the jobs of the others if they are overdue by this and if no job of its
own part is due. The others usually need less."""

_LONG_OVERDUE = timedelta(seconds=1)
"""The same behind a backlog of its own part. The others may have a backlog as well."""

_NO_PROGRESS_INTERVAL = timedelta(milliseconds=50)
_MARGIN = timedelta(seconds=1)
"""Usually less than this passes between the computation of a `next_run` and its write."""
_FULL_POLL_INTERVAL = timedelta(seconds=5)
"""A full poll also finds a `next_run` that was written later than `_MARGIN`."""


class Scheduler:
    """Fires what is due. Any number of schedulers may run at once; there is no leader.

    The live schedulers share the jobs by their ids, so that they do not fire the same ones. One
    that has nothing due in its part also fires what the others have left for a tenth of a second,
    so no job depends on one scheduler.

    A poll starts one second before the earliest key of the last poll, to skip index entries of old
    values that the database has not removed yet. This is only an optimisation: at the start, every
    five seconds and after an error a poll reads the whole index.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        firing: Firing,
        ticks: TickService,
        clock: Clock,
        poll_interval: timedelta,
    ) -> None:
        self._jobs = jobs
        self._firing = firing
        self._ticks = ticks
        self._clock = clock
        self._poll_interval = poll_interval
        self._since: datetime | None = None
        self._full_poll_at = clock.monotonic()
        self._is_stopping = False
        self._batch = _BATCH
        self._has_backlog = False
        """Whether more jobs of its part are due than one round fires."""
        self._last_owner = ""
        """The owner whose turn was the last, while there is a backlog."""

    def stop(self) -> None:
        """Let the present round end early."""
        self._is_stopping = True

    async def leave(self) -> None:
        """Give the jobs of this scheduler to the others, after the last round."""
        try:
            await self._ticks.leave()
        except UnavailableError:  # the others take them over a few seconds later
            _log.info("scheduler_did_not_leave")

    async def tick(self) -> timedelta:
        """One round. Returns the time until a job is due or until it must tick again, at most the
        poll interval."""
        read_at = self._clock.monotonic()
        since, self._since = self._since, None  # stays None if this round fails
        coverage = await self._ticks.cover()
        due = self._choose_due(since, read_at)
        part = due.of_part(coverage.schedulers, self._ticks.scheduler)
        peek = await self._jobs.peek(due, limit=1 if part == due else _PEEKED)
        until = coverage.find_limit(peek.now)
        rest = rest_until(_find_next(peek, part), peek.now, most=self._poll_interval)
        if rest == AT_ONCE and peek.next_run is not None and peek.next_run > until:
            rest = self._poll_interval  # the slot waits until its gap has passed
        elif rest == AT_ONCE:
            jobs = await self._list_due(due, part, until, coverage)
            advanced = await self._firing.fire(
                jobs, peek.now, read_at=read_at, is_stopping=lambda: self._is_stopping
            )
            is_done = advanced >= len(jobs)
            self._batch = _BATCH if is_done else min(_BATCH, max(_MIN_BATCH, 2 * advanced))
            if not advanced:  # others fire them; do not read at full speed
                rest = min(self._poll_interval, _NO_PROGRESS_INTERVAL)
        self._since = min(peek.next_run or peek.now, peek.now) - _MARGIN
        return max(AT_ONCE, min(rest, self._ticks.get_rest()))

    def _choose_due(self, since: datetime | None, read_at: float) -> DueJobs:
        """Choose which keys of the index this round reads."""
        if read_at >= self._full_poll_at + _FULL_POLL_INTERVAL.total_seconds():
            since = None
        if since is None:
            self._full_poll_at = read_at
        return DueJobs(since)

    async def _list_due(
        self, due: DueJobs, part: DueJobs, until: datetime, coverage: Coverage
    ) -> list[Job]:
        """The due jobs of its part; if there are none, the overdue jobs of the others.

        It reads the latter from the other end, so that it does not read the same jobs as their
        scheduler.
        """
        jobs = await self._list_part(part, until)
        if self._has_backlog and coverage.is_before_gap_end(jobs[0].next_run):
            on_time = coverage.gaps[-1].until + MILLISECOND
            return _join(jobs, *await self._list_on_time(due, part, until, on_time))
        if jobs or part == due:
            return jobs
        overdue = until - _OVERDUE
        return await self._jobs.list_due(overdue, limit=self._batch, due=due, newest_first=True)

    async def _list_part(self, part: DueJobs, until: datetime) -> list[Job]:
        """The due jobs of its part: the most overdue, or those of each owner in turn if there are
        more than one round fires."""
        jobs: list[Job] = []
        if not self._has_backlog:
            jobs = await self._jobs.list_due(until, limit=self._batch, due=part)
            if len(jobs) < self._batch:
                return jobs
        found = await self._jobs.list_due_in_turns(
            until, limit=self._batch, due=part, after=self._last_owner
        )
        self._last_owner = found.last_owner
        # No job is found if a newer release wrote them. The other query passes over these.
        self._has_backlog = bool(found.jobs) and not found.are_all
        return found.jobs or jobs

    async def _list_on_time(
        self, due: DueJobs, part: DueJobs, until: datetime, since: datetime
    ) -> Sequence[list[Job]]:
        """The due jobs from an instant on: those of its part, and the overdue ones of the others.

        These are on time, so they do not wait for its late jobs.
        """
        own = await self._jobs.list_due(until, limit=self._batch, due=replace(part, since=since))
        if part == due:
            return (own,)
        overdue = until - _LONG_OVERDUE
        others = await self._jobs.list_due(
            overdue, limit=self._batch, due=replace(due, since=since)
        )
        return own, others


def _find_next(peek: NextDue, part: DueJobs) -> datetime | None:
    """The first instant at which a scheduler with this part may have something to fire."""
    instants = [slot if part.includes(id_) else slot + _OVERDUE for slot, id_ in peek.first]
    if len(peek.first) == _PEEKED:
        instants.append(peek.first[-1][0])  # the next key may be one of its part
    return min(instants, default=None)


def _join(*lists: list[Job]) -> list[Job]:
    """Each job once."""
    return list({job.id: job for jobs in lists for job in jobs}.values())
