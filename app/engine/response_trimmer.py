"""Removes the response headers and bodies of executions that are no longer among the newest of
their job. The executions stay."""

from datetime import timedelta

import structlog

from app.clock import Clock
from app.policies.retention import FAILURES, KEPT_RESPONSES
from app.repositories.stored_responses import DROPPED_AT_ONCE, StoredResponseRepository

_log = structlog.get_logger(__name__)

_BETWEEN_ROUNDS = timedelta(minutes=1)
_BETWEEN_PASSES = timedelta(minutes=10)
_BETWEEN_PAGES = timedelta(milliseconds=200)
_JOBS = 100


class ResponseTrimmer:
    """Keeps the responses of the newest 20 executions and the newest 20 failures of each job. Any
    number may run at once: each removal stays right, whatever finishes afterwards.

    Once a minute it looks at the jobs whose executions the worker of this process has finished.
    Every ten minutes it also walks over all jobs that have stored responses: a process may have
    died before its round, and a cancel or the reaper may have ended executions.
    """

    def __init__(self, *, responses: StoredResponseRepository, clock: Clock) -> None:
        self._responses = responses
        self._clock = clock
        self._noted: dict[str, None] = {}
        self._queue: list[str] = []
        self._reached: str | None = None
        self._round_at = clock.monotonic() + _BETWEEN_ROUNDS.total_seconds()
        self._pass_at = clock.monotonic()

    def note_finished(self, job_id: str) -> None:
        """An execution of the job has finished, and may have a stored response."""
        self._noted[job_id] = None

    async def tick(self) -> timedelta:
        """Trim up to 100 jobs, at most 5,000 executions."""
        now = self._clock.monotonic()
        if now >= self._round_at:
            self._queue = list(dict.fromkeys([*self._queue, *self._noted]))
            self._noted = {}
            self._round_at = now + _BETWEEN_ROUNDS.total_seconds()
        if self._queue:
            part = self._queue[:_JOBS]
            if not await self._trim(part):
                del self._queue[: len(part)]
            return _BETWEEN_PAGES
        if now >= self._pass_at:
            if await self._walk():
                return _BETWEEN_PAGES
            self._pass_at = now + _BETWEEN_PASSES.total_seconds()
        return timedelta(seconds=max(0.0, self._round_at - now))

    async def _walk(self) -> bool:
        """Queue the next jobs of the pass. False at its end."""
        found = await self._responses.list_job_ids(after=self._reached)
        if found and self._reached is not None and found[-1] <= self._reached:
            found = []  # an id that is not UTF-8: the database sorts it behind what is read
        self._queue = found
        self._reached = found[-1] if found else None
        return bool(self._queue)

    async def _trim(self, job_ids: list[str]) -> bool:
        """Return whether these jobs may have more to remove."""
        surplus = await self._responses.list_surplus(
            job_ids, keep=KEPT_RESPONSES, failures=FAILURES
        )
        dropped = await self._responses.drop(surplus)
        if dropped:
            _log.info("responses_dropped", executions=dropped, jobs=len(job_ids))
        return dropped >= DROPPED_AT_ONCE
