"""Completion: what is written when executions leave the queue or their worker, and wake-ups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from app.errors import UnavailableError
from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus
from app.repositories.jobs import JobRepository, LastRun
from app.repositories.overlaps import OverlapRepository
from app.wake import Wake

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Transition:
    """An execution whose lease or queueing ended, and its next status.

    `queued` means that another attempt follows, unless a cancel was requested: then the database
    has stored `cancelled` instead.
    """

    execution: Execution
    status: ExecutionStatus


class Completion:
    """The step that follows every transition: last run fields, promotion, wake-up."""

    def __init__(self, *, jobs: JobRepository, overlaps: OverlapRepository, wake: Wake) -> None:
        self._jobs = jobs
        self._overlaps = overlaps
        self._wake = wake
        self._last_runs: list[LastRun] = []

    async def follow_up(self, transitions: Sequence[Transition]) -> None:
        """Keep the last run fields for `write_last_runs`, promote the executions that waited for
        these, and wake the workers.

        If a requested cancel replaced `queued` by `cancelled`, the last run fields are not written.
        An outage is only logged: the reaper promotes later.
        """
        self._last_runs += [
            LastRun(one.execution.job_id, one.execution.scheduled_for, one.status)
            for one in transitions
            if one.status in FINAL_STATUSES
        ]
        if any(one.status is ExecutionStatus.QUEUED for one in transitions):
            self._wake.wake_workers()
        # Also for `queued`: if a cancel was requested, the database has stored `cancelled` instead.
        job_ids = [
            one.execution.job_id for one in transitions if one.execution.live_for is not None
        ]
        if not job_ids:
            return
        try:
            await self._promote(await self._overlaps.list_jobs_with_waiting(job_ids))
        except UnavailableError:
            _log.warning("promotions_left_to_the_reaper", jobs=len(job_ids))

    async def promote_jobs_without_live(self) -> None:
        """Promote for each job that has a waiting execution and no live one: a process ended before
        it promoted.

        Raises UnavailableError.
        """
        await self._promote(await self._overlaps.list_jobs_without_live())

    async def write_last_runs(self) -> None:
        """Store `last_run` and `last_status` of the jobs whose executions ended.

        Raises UnavailableError; then the next call stores them.
        """
        if not self._last_runs:
            return
        last_runs, self._last_runs = self._last_runs, []
        try:
            await self._jobs.note_last_runs(last_runs)
        except UnavailableError:
            self._last_runs = last_runs + self._last_runs
            raise

    async def _promote(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if await self._overlaps.promote(job_id):
                _log.info("execution_promoted", job_id=job_id)
                self._wake.wake_workers()
