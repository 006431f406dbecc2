"""Completion: what follows when executions end, whoever ended them."""

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
class Ended:
    """An execution that left the queue or its worker, and its status since: `queued` if another
    attempt is due."""

    execution: Execution
    status: ExecutionStatus


class Completion:
    """The one step that follows an end: last run fields, promotion, wake-up."""

    def __init__(self, *, jobs: JobRepository, overlaps: OverlapRepository, wake: Wake) -> None:
        self._jobs = jobs
        self._overlaps = overlaps
        self._wake = wake
        self._last_runs: list[LastRun] = []

    async def follow_up(self, ended: Sequence[Ended]) -> None:
        """Keep the last run fields for `write_last_runs`, promote what waited for these
        executions, and wake the workers.

        An outage is only logged: the reaper promotes later.
        """
        self._last_runs += [
            LastRun(one.execution.job_id, one.execution.scheduled_for, one.status)
            for one in ended
            if one.status in FINAL_STATUSES
        ]
        if any(one.status is ExecutionStatus.QUEUED for one in ended):
            self._wake.executions_queued()
        # Not only final ones: a requested cancel turns `queued` into `cancelled`.
        job_ids = [one.execution.job_id for one in ended if one.execution.live_for is not None]
        if not job_ids:
            return
        try:
            await self._promote(await self._overlaps.list_jobs_with_waiting(job_ids))
        except UnavailableError:
            _log.warning("promotions_left_to_the_reaper", jobs=len(job_ids))

    async def promote_orphans(self) -> None:
        """Promote where an execution waits and none is live: a process died before it promoted.

        Raises UnavailableError.
        """
        await self._promote(await self._overlaps.list_jobs_without_live())

    async def write_last_runs(self) -> None:
        """Store `last_run` and `last_status` of the jobs whose executions ended.

        Raises UnavailableError; the next call stores them then.
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
                self._wake.executions_queued()
